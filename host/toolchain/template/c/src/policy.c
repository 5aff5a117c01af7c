// Lets only requests with a certain header through, and tells the upstream who sent them.
#include "witgate.h"
#include <ctype.h>

#define ADDRESS "x-client-address"

static wg_string_t header;

// Checked before `configure`, and shown by editors.
void exports_wg_config_schema(wg_string_t *ret) {
  wg_string_dup(ret, "{\"type\":\"object\",\"required\":[\"header\"],\"additionalProperties\":false,\"properties\":{"
                     "\"header\":{\"type\":\"string\",\"description\":\"The header that a request must have.\"}}}");
}

// What is neither read nor written here never reaches the policy, nor leaves it.
bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  header = wg_member(*config, "header"); // into `config`, which therefore stays
  for (size_t at = 0; at < header.len; at++)
    if (!isalnum(header.ptr[at]) && !strchr("-_", header.ptr[at]))
      return wg_fail(err, wg_format("header: `%.*s` is no header name", WG_TEXT(header)));
  wg_plan_request_reads(WG_LIST(header, WG("client:ip")));
  wg_plan_writes(WG_LIST(WG(ADDRESS)));
  return true;
}

// False is the policy's own failure (503); to refuse a request is to respond.
bool exports_wg_on_request(wg_values_t *values, wg_verdict_t *ret, wg_string_t *err) {
  wg_option_string_t sent = values->ptr[0], address = values->ptr[1];
  *ret = (wg_verdict_t){0}; // proceed
  if (!sent.is_some || !sent.val.len) {
    ret->tag = WG_TYPES_VERDICT_RESPOND;
    wg_problem(&ret->val.respond, 400, "A header is missing", "a header must be sent");
  } else {
    wg_set(ret, ADDRESS, wg_copy(address.val.ptr, address.val.len));
  }
  wg_values_free(values);
  return true;
}
