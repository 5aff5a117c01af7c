// Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once.
#include "witgate.h"

enum { SIGNATURE, TIMESTAMP, DELIVERY, HEADERS };
enum { ACCEPTED, REFUSED, REPLAYED, OUTCOMES };
#define SCHEME "sha256="
#define HEX_LEN 64

static const char *const headers[HEADERS] = {"x-signature", "x-timestamp", "x-delivery"};
static const char *const outcomes[OUTCOMES] = {"accepted", "refused", "replayed"};
static wg_string_t secret;
static int64_t window_millis;
static wg_shared_state_own_bucket_t deliveries;
static uint32_t counters[OUTCOMES];

// Checked before `configure`, and shown by editors.
void exports_wg_config_schema(wg_string_t *ret) {
  wg_string_dup(ret, "{\"type\":\"object\",\"required\":[\"secret\"],\"additionalProperties\":false,\"properties\":{"
                     "\"secret\":{\"type\":\"string\",\"description\":"
                     "\"The name of the secret that the sender signs with.\"},"
                     "\"window\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":86400,\"default\":300,\"description\":"
                     "\"How many seconds a timestamp may be away from the gateway's clock.\"}}}");
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  secret = wg_member(*config, "secret"); // into `config`, which therefore stays
  wg_string_t window = wg_member(*config, "window");
  window_millis = 1000 * (window.len ? strtol((char *)window.ptr, NULL, 10) : 300); // a `,` or `}` ends the number
  wg_plan_request_reads(WG_LIST(WG(headers[SIGNATURE]), WG(headers[TIMESTAMP]), WG(headers[DELIVERY])));
  wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, 65536);
  wg_plan_writes(WG_LIST(WG("x-webhook")));
  for (int at = 0; at < OUTCOMES; at++) {
    wg_tuple2_string_string_t label = {WG("outcome"), WG(outcomes[at])};
    if (!wg_metrics_define(WG_METRICS_KIND_COUNTER, &WG("webhook_signatures_total"),
                           &(wg_list_tuple2_string_string_t){&label, 1}, &counters[at], err))
      return false;
  }
  return wg_shared_state_static_bucket_open(&WG("deliveries"), &deliveries, err);
}

static void refuse(wg_types_reply_t *reply, uint16_t status, int outcome, const char *detail) {
  char line[128];
  snprintf(line, sizeof line, "refused: %s", detail);
  wg_log_write(WG_LOG_LEVEL_INFO, &WG(line));
  wg_metrics_add(counters[outcome], 1);
  wg_problem(reply, status, "The webhook was refused", detail);
}

static bool all_of(const uint8_t *at, const uint8_t *end, const char *letters) {
  while (at < end && memchr(letters, *at, strlen(letters))) at++;
  return at == end;
}

static bool fits(int header, wg_string_t value) {
  const uint8_t *end = value.ptr + value.len;
  size_t scheme = strlen(SCHEME);
  if (header == SIGNATURE)
    return value.len == scheme + HEX_LEN && !memcmp(value.ptr, SCHEME, scheme) &&
           all_of(value.ptr + scheme, end, "0123456789abcdef");
  if (header == TIMESTAMP) return value.len && value.len <= 12 && all_of(value.ptr, end, "0123456789");
  return value.len && !memchr(value.ptr, '\n', value.len); // a header that came twice has a newline in it
}

// What needs no body is checked before there is one.
bool exports_wg_on_request(wg_values_t *values, wg_verdict_t *ret, wg_string_t *err) {
  char detail[64] = "", number[16] = "";
  for (int at = 0; at < HEADERS && !*detail; at++)
    if (!values->ptr[at].is_some || !fits(at, values->ptr[at].val))
      snprintf(detail, sizeof detail, "%s is missing or malformed", headers[at]);
  wg_string_t timestamp = values->ptr[TIMESTAMP].val;
  if (!*detail) {
    memcpy(number, timestamp.ptr, timestamp.len);
    if (llabs((int64_t)wg_env_unix_millis() - 1000 * atoll(number)) > window_millis)
      snprintf(detail, sizeof detail, "x-timestamp is outside the window");
  }
  *ret = (wg_verdict_t){0}; // proceed
  if (*detail) {
    ret->tag = WG_TYPES_VERDICT_RESPOND;
    refuse(&ret->val.respond, 401, REFUSED, detail);
  } else {
    wg_string_t delivery = values->ptr[DELIVERY].val;
    wg_string_t note = wg_format("%s\n%.*s\n%.*s", number, WG_TEXT(delivery), HEX_LEN,
                                 values->ptr[SIGNATURE].val.ptr + strlen(SCHEME));
    wg_note(ret, note.ptr, note.len);
    wg_string_free(&note);
  }
  wg_values_free(values);
  return true;
}

// False, from the HMAC too, is the policy's own failure (503).
bool exports_wg_on_request_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  size_t time_len = (uint8_t *)memchr(note->ptr, '\n', note->len) - note->ptr;
  wg_string_t delivery = {note->ptr + time_len + 1, note->len - time_len - HEX_LEN - 2};
  wg_list_u8_t sent = {note->ptr + note->len - HEX_LEN, HEX_LEN}, tag;
  wg_list_u8_t data = {wg_alloc(time_len + 1 + body->len), time_len + 1 + body->len};
  memcpy(data.ptr, note->ptr, time_len), data.ptr[time_len] = '.';
  if (body->len) memcpy(data.ptr + time_len + 1, body->ptr, body->len);
  wg_shared_state_borrow_bucket_t bucket = wg_shared_state_borrow_bucket(deliveries);
  bool is_made = wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &secret, &data, &tag, err);
  if (is_made) {
    char hex[HEX_LEN + 1];
    for (size_t at = 0; at < HEX_LEN / 2; at++) snprintf(hex + 2 * at, 3, "%02x", tag.ptr[at]);
    wg_list_u8_t expected = {(uint8_t *)hex, HEX_LEN}, seen = {(uint8_t *)"1", 1};
    *ret = (wg_body_verdict_t){.tag = WG_TYPES_BODY_VERDICT_RESPOND};
    if (!wg_crypto_equal(&expected, &sent)) {
      refuse(&ret->val.respond, 401, REFUSED, "x-signature does not fit the body");
    } else if (!wg_shared_state_method_bucket_compare_and_set(bucket, &delivery, NULL, &seen, 2 * window_millis)) {
      // Kept for as long as the timestamp could still pass: it may come from one window ahead.
      refuse(&ret->val.respond, 409, REPLAYED, "the delivery came before");
    } else {
      wg_metrics_add(counters[ACCEPTED], 1);
      wg_verdict_t verified = {0};
      wg_note(&verified, "verified", strlen("verified"));
      *ret = (wg_body_verdict_t){.tag = WG_TYPES_BODY_VERDICT_AMEND, .val.amend = verified.val.amend};
    }
    wg_list_u8_free(&tag);
  }
  free(data.ptr);
  wg_list_u8_free(body), wg_list_u8_free(note);
  return is_made;
}

bool exports_wg_on_response(wg_values_t *values, wg_list_u8_t *note, wg_verdict_t *ret, wg_string_t *err) {
  *ret = (wg_verdict_t){0}; // proceed
  if (wg_is((wg_string_t){note->ptr, note->len}, WG("verified"))) wg_set(ret, "x-webhook", wg_format("verified"));
  wg_values_free(values), wg_list_u8_free(note);
  return true;
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  *ret = (wg_body_verdict_t){0}; // proceed
  wg_list_u8_free(body), wg_list_u8_free(note);
  return true;
}
