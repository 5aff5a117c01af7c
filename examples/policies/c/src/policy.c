// Lets a webhook through if its signature is right, its time is now and its delivery is new. The sender signs
// `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
#include "witgate.h"
#include <ctype.h>
#include <inttypes.h>

enum { BODY_BYTES = 65536, DIGEST_BYTES = 32, ID_BYTES = 64 };
enum { ACCEPTED, REFUSED, REPLAYED };

// What the header hook leaves for the body's.
typedef struct {
  char timestamp[13], delivery[ID_BYTES + 1];
  uint8_t signature[DIGEST_BYTES];
} note_t;
static const char VERIFIED[] = "verified";

static wg_string_t secret;
static int64_t window = 300;
static wg_shared_state_borrow_bucket_t deliveries;
static uint32_t counted[3];

void exports_wg_config_schema(wg_string_t *ret) {
  wg_string_dup(ret, "{\"type\":\"object\",\"required\":[\"secret\"],\"additionalProperties\":false,\"properties\":{"
                     "\"secret\":{\"type\":\"string\",\"description\":\"The name of the secret.\"},"
                     "\"window\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":86400,\"description\":\"Seconds.\"}}}");
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  secret = wg_member(*config, "secret"); // into `config`, which therefore stays
  wg_string_t seconds = wg_member(*config, "window");
  if (seconds.len) window = strtol((char *)seconds.ptr, NULL, 10);
  wg_shared_state_own_bucket_t opened;
  if (!wg_shared_state_static_bucket_open(&WG("deliveries"), &opened, err)) return false;
  deliveries = wg_shared_state_borrow_bucket(opened);
  const char *const outcomes[] = {"accepted", "refused", "replayed"};
  for (int outcome = ACCEPTED; outcome <= REPLAYED; outcome++) {
    wg_tuple2_string_string_t label = {WG("outcome"), WG(outcomes[outcome])};
    wg_list_tuple2_string_string_t labels = {&label, 1};
    wg_string_t name = WG("webhook_signatures_total");
    if (!wg_metrics_define(WG_METRICS_KIND_COUNTER, &name, &labels, &counted[outcome], err)) return false;
  }
  wg_plan_request_reads(WG_LIST(WG("x-signature"), WG("x-timestamp"), WG("x-delivery")));
  wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, BODY_BYTES);
  wg_plan_writes(WG_LIST(WG("x-webhook")));
  return true;
}

static void refuse(wg_types_reply_t *reply, uint16_t status, const char *detail, int outcome) {
  wg_string_t line = wg_format("refused: %s", detail);
  wg_log_write(WG_LOG_LEVEL_INFO, &line);
  wg_string_free(&line);
  wg_metrics_add(counted[outcome], 1);
  wg_problem(reply, status, "The webhook was refused", detail);
}

// Copies a value of one to `max` letters that are all of a kind.
static bool read(char *to, wg_option_string_t value, size_t max, int (*is_letter)(int)) {
  if (!value.is_some || !value.val.len || value.val.len > max) return false;
  for (size_t at = 0; at < value.val.len; at++)
    if (!is_letter(value.val.ptr[at])) return false;
  memcpy(to, value.val.ptr, value.val.len);
  return to[value.val.len] = 0, true;
}

static int is_id(int letter) { return isalnum(letter) || letter == '-' || letter == '_'; }
static int is_hex(int letter) { return isdigit(letter) || (letter >= 'a' && letter <= 'f'); }

static bool read_signature(uint8_t *to, wg_option_string_t value) {
  char text[2 * DIGEST_BYTES + 1];
  if (!value.is_some || value.val.len != 7 + 2 * DIGEST_BYTES || memcmp(value.val.ptr, "sha256=", 7)) return false;
  value.val.ptr += 7, value.val.len -= 7;
  if (!read(text, value, 2 * DIGEST_BYTES, is_hex)) return false;
  for (int at = 0; at < DIGEST_BYTES; at++) sscanf(text + 2 * at, "%2hhx", &to[at]);
  return true;
}

bool exports_wg_on_request(wg_values_t *values, wg_verdict_t *ret, wg_string_t *err) {
  note_t note = {0};
  const char *wrong = NULL;
  *ret = (wg_verdict_t){0};
  if (!read_signature(note.signature, values->ptr[0])) wrong = "x-signature is missing or malformed";
  else if (!read(note.timestamp, values->ptr[1], 12, isdigit)) wrong = "x-timestamp is missing or malformed";
  else if (!read(note.delivery, values->ptr[2], ID_BYTES, is_id)) wrong = "x-delivery is missing or malformed";
  else if (llabs(atoll(note.timestamp) - (int64_t)(wg_env_unix_millis() / 1000)) > window)
    wrong = "x-timestamp is too far from now";
  if (wrong) {
    ret->tag = WG_TYPES_VERDICT_RESPOND;
    refuse(&ret->val.respond, 401, wrong, REFUSED);
  } else {
    wg_note(ret, &note, sizeof note);
  }
  wg_values_free(values);
  return true;
}

static bool check(wg_list_u8_t body, const note_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  size_t head = strlen(note->timestamp) + 1;
  wg_list_u8_t data = {wg_alloc(head + body.len), head + body.len}, tag;
  wg_list_u8_t given = {(uint8_t *)note->signature, DIGEST_BYTES};
  memcpy(data.ptr, note->timestamp, head), data.ptr[head - 1] = '.';
  memcpy(data.ptr + head, body.ptr, body.len);
  bool is_made = wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &secret, &data, &tag, err);
  wg_list_u8_free(&data);
  if (!is_made) return false;
  bool is_right = wg_crypto_equal(&tag, &given);
  wg_list_u8_free(&tag);
  wg_string_t delivery = WG(note->delivery);
  wg_list_u8_t seen = {(uint8_t *)"1", 1};
  ret->tag = WG_TYPES_BODY_VERDICT_RESPOND;
  if (!is_right) {
    refuse(&ret->val.respond, 401, "the signature is not that of the body", REFUSED);
  } else if (!wg_shared_state_method_bucket_compare_and_set(deliveries, &delivery, NULL, &seen, 2000 * window)) {
    refuse(&ret->val.respond, 409, "this delivery was seen before", REPLAYED);
  } else {
    wg_verdict_t verdict = {0};
    wg_note(&verdict, VERIFIED, sizeof VERIFIED);
    ret->tag = WG_TYPES_BODY_VERDICT_AMEND, ret->val.amend = verdict.val.amend;
    wg_metrics_add(counted[ACCEPTED], 1);
  }
  return true;
}

bool exports_wg_on_request_body(wg_list_u8_t *body, wg_list_u8_t *noted, wg_body_verdict_t *ret, wg_string_t *err) {
  note_t note;
  *ret = (wg_body_verdict_t){0};
  bool is_good = noted->len == sizeof note;
  if (is_good) is_good = check(*body, memcpy(&note, noted->ptr, sizeof note), ret, err);
  else wg_fail(err, wg_format("a note of %zu bytes", noted->len));
  wg_list_u8_free(body), wg_list_u8_free(noted);
  return is_good;
}

bool exports_wg_on_response(wg_values_t *values, wg_list_u8_t *note, wg_verdict_t *ret, wg_string_t *err) {
  *ret = (wg_verdict_t){0};
  if (note->len == sizeof VERIFIED && !memcmp(note->ptr, VERIFIED, sizeof VERIFIED))
    wg_set(ret, "x-webhook", wg_format("verified"));
  wg_values_free(values), wg_list_u8_free(note);
  return true;
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  *ret = (wg_body_verdict_t){0};
  wg_list_u8_free(body), wg_list_u8_free(note);
  return true;
}
