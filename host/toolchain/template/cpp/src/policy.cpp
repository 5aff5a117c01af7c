// Lets only requests with a certain header through, and tells the upstream who sent them.
#include "witgate.hpp"
#include <algorithm>
#include <cctype>

using namespace witgate;

namespace {
// What the upstream learns; whatever a client sends in it is overwritten.
constexpr auto address = "x-client-address";
} // namespace

// Checked before `configure`, and shown by editors.
void exports_wg_config_schema(wg_string_t *ret) {
  *ret = owned(R"({
    "type": "object",
    "properties": { "header": { "type": "string", "description": "The header that a request must have." } },
    "required": ["header"],
    "additionalProperties": false
  })");
}

// What is neither read nor written here never reaches the policy, nor leaves it.
bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  auto header = view(wg_member(*config, "header"));
  auto fits = [](unsigned char letter) { return std::isalnum(letter) || letter == '-' || letter == '_'; };
  bool is_name = std::all_of(header.begin(), header.end(), fits);
  if (is_name) {
    plan(wg_plan_request_reads, {header, "client:ip"});
    plan(wg_plan_writes, {address});
  } else {
    *err = owned("header: `" + std::string(header) + "` is no header name");
  }
  wg_string_free(config);
  return is_name;
}

// False is the policy's own failure (503); to refuse a request is to respond.
bool exports_wg_on_request(wg_values_t *received, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Verdict verdict(ret);
  if (values[0].value_or("").empty())
    verdict.problem(400, "A header is missing", "a header must be sent");
  else
    verdict.set(address, values[1].value_or(""));
  return true;
}
