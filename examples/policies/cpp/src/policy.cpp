// Lets a webhook through if its signature is right, its time is now and its delivery is new. The sender signs
// `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
#include "witgate.hpp"
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

using namespace witgate;
using std::string;
using std::string_view;

namespace {

constexpr uint32_t body_bytes = 65'536;
constexpr string_view verified = "verified", prefix = "sha256=";
enum Outcome { accepted, refused, replayed };

string secret;
int64_t window = 300;
wg_shared_state_borrow_bucket_t deliveries;
std::array<uint32_t, 3> counted;

int64_t number(string_view digits) {
  int64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

bool is_all(string_view value, size_t longest, int (*is_letter)(int)) {
  return !value.empty() && value.size() <= longest && std::all_of(value.begin(), value.end(), is_letter);
}
int is_id(int letter) { return std::isalnum(letter) || letter == '-' || letter == '_'; }
int is_hex(int letter) { return std::isdigit(letter) || (letter >= 'a' && letter <= 'f'); }

bool is_signature(string_view value) {
  return value.starts_with(prefix) && value.size() == prefix.size() + 64 && is_all(value.substr(7), 64, is_hex);
}

string unhex(string_view digits) {
  string all;
  for (size_t at = 0; at + 1 < digits.size(); at += 2) {
    int byte = 0;
    std::from_chars(&digits[at], &digits[at] + 2, byte, 16);
    all += static_cast<char>(byte);
  }
  return all;
}

void refuse(wg_types_reply_t &reply, uint16_t status, const char *detail, Outcome outcome) {
  auto told = "refused: " + string(detail);
  auto line = text(told);
  wg_log_write(WG_LOG_LEVEL_INFO, &line);
  wg_metrics_add(counted[outcome], 1);
  wg_problem(&reply, status, "The webhook was refused", detail);
}

} // namespace

void exports_wg_config_schema(wg_string_t *ret) {
  *ret = owned(R"({
    "type": "object",
    "properties": {
      "secret": { "type": "string", "description": "The name of the secret." },
      "window": { "type": "integer", "minimum": 1, "maximum": 86400, "description": "Seconds." }
    },
    "required": ["secret"],
    "additionalProperties": false
  })");
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  secret = view(wg_member(*config, "secret"));
  if (auto seconds = view(wg_member(*config, "window")); !seconds.empty()) window = number(seconds);
  wg_string_free(config);
  auto name = text("deliveries"), counter = text("webhook_signatures_total");
  wg_shared_state_own_bucket_t opened;
  if (!wg_shared_state_static_bucket_open(&name, &opened, err)) return false;
  deliveries = wg_shared_state_borrow_bucket(opened);
  for (auto outcome : {accepted, refused, replayed}) {
    const char *const names[] = {"accepted", "refused", "replayed"};
    wg_tuple2_string_string_t label{text("outcome"), text(names[outcome])};
    wg_list_tuple2_string_string_t labels{&label, 1};
    if (!wg_metrics_define(WG_METRICS_KIND_COUNTER, &counter, &labels, &counted[outcome], err)) return false;
  }
  plan(wg_plan_request_reads, {"x-signature", "x-timestamp", "x-delivery"});
  wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, body_bytes);
  plan(wg_plan_writes, {"x-webhook"});
  return true;
}

bool exports_wg_on_request(wg_values_t *received, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Verdict verdict(ret);
  auto signature = values[0].value_or(""), timestamp = values[1].value_or(""), delivery = values[2].value_or("");
  auto is_now = [&] { return std::abs(number(timestamp) - int64_t(wg_env_unix_millis() / 1000)) <= window; };
  const char *wrong = !is_signature(signature)             ? "x-signature is missing or malformed"
                      : !is_all(timestamp, 12, std::isdigit) ? "x-timestamp is missing or malformed"
                      : !is_all(delivery, 64, is_id)         ? "x-delivery is missing or malformed"
                      : !is_now()                            ? "x-timestamp is too far from now"
                                                             : nullptr;
  if (wrong)
    refuse(verdict.respond(), 401, wrong, refused);
  else
    verdict.note(string(timestamp) + "\n" + string(delivery) + "\n" + string(signature.substr(prefix.size())));
  return true;
}

bool exports_wg_on_request_body(wg_list_u8_t *received, wg_list_u8_t *noted, wg_body_verdict_t *ret, wg_string_t *err) {
  Bytes body{received}, note{noted};
  *ret = {.tag = WG_TYPES_BODY_VERDICT_RESPOND};
  string_view kept = note;
  auto timestamp = kept.substr(0, kept.find('\n')), delivery = kept.substr(timestamp.size() + 1);
  delivery = delivery.substr(0, delivery.find('\n'));
  auto given = unhex(kept.substr(timestamp.size() + delivery.size() + 2));

  auto message = string(timestamp) + "." + string(body);
  auto name = text(secret), key = text(delivery);
  auto data = bytes(message), tag = bytes(given), seen = bytes("1");
  wg_list_u8_t made;
  if (!wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &name, &data, &made, err)) return false;
  Bytes expected{&made};
  if (!wg_crypto_equal(&made, &tag)) {
    refuse(ret->val.respond, 401, "the signature is not that of the body", refused);
  } else if (!wg_shared_state_method_bucket_compare_and_set(deliveries, &key, nullptr, &seen, 2000 * window)) {
    refuse(ret->val.respond, 409, "this delivery was seen before", replayed);
  } else {
    wg_metrics_add(counted[accepted], 1);
    wg_verdict_t amended;
    Verdict(&amended).note(verified);
    *ret = {.tag = WG_TYPES_BODY_VERDICT_AMEND, .val = {.amend = amended.val.amend}};
  }
  return true;
}

bool exports_wg_on_response(wg_values_t *received, wg_list_u8_t *noted, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Bytes note{noted};
  Verdict verdict(ret);
  if (string_view(note) == verified) verdict.set("x-webhook", verified);
  return true;
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  *ret = {};
  wg_list_u8_free(body), wg_list_u8_free(note);
  return true;
}
