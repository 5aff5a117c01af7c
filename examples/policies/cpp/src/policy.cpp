// Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once.
#include "witgate.hpp"
#include <algorithm>
#include <cstdlib>

using namespace witgate;
using std::string, std::string_view;

namespace {
constexpr string_view scheme = "sha256=", hex_digits = "0123456789abcdef", digits = "0123456789";
constexpr size_t hex_len = 64;
enum Outcome { accepted, refused, replayed };

string secret;
int64_t window_millis = 300'000;
wg_shared_state_own_bucket_t deliveries;
uint32_t counters[3];

// Logs and counts, too.
void refuse(wg_types_reply_t &reply, uint16_t status, const string &detail, Outcome outcome = refused) {
  auto line = "refused: " + detail;
  auto borrowed = text(line);
  wg_log_write(WG_LOG_LEVEL_INFO, &borrowed);
  wg_metrics_add(counters[outcome], 1);
  wg_problem(&reply, status, "The webhook was refused", detail.c_str());
}

bool consists_of(string_view value, string_view letters) {
  return value.find_first_not_of(letters) == string_view::npos;
}

// The header that does not look as it must, or nothing.
const char *misfit(string_view signature, string_view timestamp, string_view delivery) {
  if (signature.size() != scheme.size() + hex_len || !signature.starts_with(scheme) ||
      !consists_of(signature.substr(scheme.size()), hex_digits))
    return "x-signature";
  if (timestamp.empty() || timestamp.size() > 12 || !consists_of(timestamp, digits)) return "x-timestamp";
  // A header that came twice has a newline in it.
  return delivery.empty() || delivery.find('\n') != string_view::npos ? "x-delivery" : nullptr;
}

string hex(wg_list_u8_t bytes) {
  string made;
  for (uint8_t byte : view(bytes)) made += {hex_digits[byte >> 4], hex_digits[byte & 15]};
  return made;
}
} // namespace

// Checked before `configure`, and shown by editors.
void exports_wg_config_schema(wg_string_t *ret) {
  *ret = owned(R"({
    "type": "object",
    "properties": {
      "secret": { "type": "string", "description": "The name of the secret that the sender signs with." },
      "window": {
        "type": "integer", "minimum": 1, "maximum": 86400, "default": 300,
        "description": "How many seconds a timestamp may be away from the gateway's clock."
      }
    },
    "required": ["secret"],
    "additionalProperties": false
  })");
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  secret = view(wg_member(*config, "secret"));
  string window(view(wg_member(*config, "window")));
  if (!window.empty()) window_millis = 1000 * std::strtoll(window.c_str(), nullptr, 10);
  wg_string_free(config);
  plan(wg_plan_request_reads, {"x-signature", "x-timestamp", "x-delivery"});
  wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, 65536);
  plan(wg_plan_writes, {"x-webhook"});
  auto counter = text("webhook_signatures_total"), bucket = text("deliveries");
  uint32_t *next = counters;
  for (auto outcome : {"accepted", "refused", "replayed"}) {
    wg_tuple2_string_string_t label{text("outcome"), text(outcome)};
    wg_list_tuple2_string_string_t labels{&label, 1};
    if (!wg_metrics_define(WG_METRICS_KIND_COUNTER, &counter, &labels, next++, err)) return false;
  }
  return wg_shared_state_static_bucket_open(&bucket, &deliveries, err);
}

// What needs no body is checked before there is one.
bool exports_wg_on_request(wg_values_t *received, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Verdict verdict(ret);
  auto signature = values[0].value_or(""), timestamp = values[1].value_or(""), delivery = values[2].value_or("");
  if (auto name = misfit(signature, timestamp, delivery)) {
    refuse(verdict.respond(), 401, string(name) + " is missing or malformed");
    return true;
  }
  string time(timestamp);
  auto away = int64_t(wg_env_unix_millis()) - 1000 * std::strtoll(time.c_str(), nullptr, 10);
  if (std::abs(away) > window_millis)
    refuse(verdict.respond(), 401, "x-timestamp is outside the window");
  else
    verdict.note(time + "\n" + string(delivery) + "\n" + string(signature.substr(scheme.size())));
  return true;
}

// False, from the HMAC too, is the policy's own failure (503).
bool exports_wg_on_request_body(wg_list_u8_t *body, wg_list_u8_t *left, wg_body_verdict_t *ret, wg_string_t *err) {
  Bytes content{body}, kept{left};
  string_view note = kept;
  auto time_end = note.find('\n'), delivery_end = note.rfind('\n');
  auto delivery = text(note.substr(time_end + 1, delivery_end - time_end - 1));
  auto signed_text = string(note.substr(0, time_end)) + "." + string(string_view(content));
  auto name = text(secret);
  auto data = bytes(signed_text), sent = bytes(note.substr(delivery_end + 1)), seen = bytes("1");
  wg_list_u8_t tag;
  if (!wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &name, &data, &tag, err)) return false;
  auto made = hex(tag);
  wg_list_u8_free(&tag);
  auto expected = bytes(made);
  *ret = {.tag = WG_TYPES_BODY_VERDICT_RESPOND};
  if (!wg_crypto_equal(&expected, &sent)) {
    refuse(ret->val.respond, 401, "x-signature does not fit the body");
    return true;
  }
  // Kept for as long as the timestamp could still pass: it may come from one window ahead.
  if (!wg_shared_state_method_bucket_compare_and_set(wg_shared_state_borrow_bucket(deliveries), &delivery, nullptr,
                                                     &seen, 2 * window_millis)) {
    refuse(ret->val.respond, 409, "the delivery came before", replayed);
    return true;
  }
  wg_metrics_add(counters[accepted], 1);
  wg_verdict_t verified;
  Verdict(&verified).note("verified");
  ret->tag = WG_TYPES_BODY_VERDICT_AMEND, ret->val.amend = verified.val.amend;
  return true;
}

bool exports_wg_on_response(wg_values_t *received, wg_list_u8_t *left, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Bytes note{left};
  Verdict verdict(ret);
  if (string_view(note) == "verified") verdict.set("x-webhook", "verified");
  return true;
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *left, wg_body_verdict_t *ret, wg_string_t *err) {
  Bytes content{body}, note{left};
  *ret = {}; // proceed
  return true;
}
