// The conformance suite's guest in C++: each scenario of ../../suite.yaml, as ../../rust does it.
#include "witgate.hpp"
#include <functional>
#include <memory>

using namespace witgate;
using std::string;
using std::string_view;

namespace {

// Of "password", and made weak so that it is quick.
constexpr string_view hashed =
    "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA";

// What `configure` made for the scenario.
string scenario;
wg_shared_state_own_bucket_t bucket;
wg_rate_limit_own_limiter_t limiter;
wg_jwt_own_verifier_t verifier;
uint32_t metrics[3];
std::vector<std::unique_ptr<string>> kept;

bool is(string_view name) { return scenario == name; }
string word(bool truth) { return truth ? "true" : "false"; }

bool fail(wg_string_t *err, string_view why) { return *err = owned(why), false; }

string joined(const std::vector<string> &parts, string_view by = "|") {
  string all;
  for (auto &part : parts) all += (&part == parts.data() ? string() : string(by)) + part;
  return all;
}

string joined(const Values &values) {
  std::vector<string> parts;
  for (size_t at = 0; at < values.size(); at++) parts.emplace_back(values[at].value_or("-"));
  return joined(parts);
}

string hex(string_view data) {
  string all;
  for (unsigned char byte : data) {
    all += "0123456789abcdef"[byte >> 4];
    all += "0123456789abcdef"[byte & 15];
  }
  return all;
}

string upper(string_view from) {
  string all(from);
  for (auto &letter : all)
    if (letter >= 'a' && letter <= 'z') letter -= 'a' - 'A';
  return all;
}

void teapot(wg_types_reply_t &reply, uint16_t status) {
  const std::pair<string_view, string_view> fields[] = {{"content-type", "text/plain"}, {"x-two", "1"}, {"x-two", "2"}};
  auto body = owned("short and stout");
  reply.status = status;
  reply.body = {body.ptr, body.len};
  reply.headers = {(wg_tuple2_string_string_t *)wg_alloc(sizeof(wg_tuple2_string_string_t) * 3), 3};
  for (int at = 0; at < 3; at++) reply.headers.ptr[at] = {owned(fields[at].first), owned(fields[at].second)};
}

bool make(wg_string_t *err) {
  auto other = text("other"), suite = text("suite");
  if (is("refuse")) return fail(err, "refused as told");
  if (is("skip")) wg_plan_on_error(WG_TYPES_FALLBACK_SKIP);
  if (is("tick")) wg_plan_tick_millis(1000);
  if (is("open-ungranted")) return wg_shared_state_static_bucket_open(&other, &bucket, err);
  if (is("state")) return wg_shared_state_static_bucket_open(&suite, &bucket, err);
  if (is("rate")) {
    wg_rate_limit_quota_t quota{.count = 2, .period_millis = 60'000, .burst = 0};
    return wg_rate_limit_static_limiter_create(&suite, &quota, &limiter, err);
  }
  if (is("jwt")) {
    wg_jwt_key_source_t key{.tag = WG_JWT_KEY_SOURCE_SECRET, .val = {.secret = text("signing")}};
    auto issuer = text("https://issuer.example"), claim = text("sub");
    wg_jwt_rules_t rules{.keys = {&key, 1}, .issuers = {&issuer, 1}, .required_claims = {&claim, 1}};
    return wg_jwt_static_verifier_create(&rules, &verifier, err);
  }
  if (is("metrics")) {
    wg_tuple2_string_string_t label{text("kind"), suite};
    wg_list_tuple2_string_string_t labels{&label, 1};
    wg_string_t names[] = {text("suite_total"), text("suite_level"), text("suite_seconds")};
    for (uint8_t kind = 0; kind < 3; kind++)
      if (!wg_metrics_define(kind, &names[kind], &labels, &metrics[kind], err)) return false;
  }
  if (scenario.starts_with("body-")) {
    wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, 1000);
    wg_plan_response_body(WG_TYPES_BODY_MODE_BUFFER, 1000);
  }
  if (scenario.starts_with("stream-")) {
    wg_plan_request_body(WG_TYPES_BODY_MODE_STREAM, 0);
    wg_plan_response_body(WG_TYPES_BODY_MODE_STREAM, 0);
  }
  return true;
}

string environment() {
  auto millis = wg_env_unix_millis(), nanos = wg_env_unix_nanos(), earlier = wg_env_monotonic_nanos();
  bool is_steady = earlier <= wg_env_monotonic_nanos(), differ = wg_env_random_u64() != wg_env_random_u64();
  wg_list_u8_t drawn;
  wg_env_random_bytes(5, &drawn);
  auto length = drawn.len;
  wg_list_u8_free(&drawn);
  return joined({std::to_string(millis), word(nanos / 1'000'000 == millis), word(is_steady), word(differ),
                 std::to_string(length)});
}

string lines() {
  const string_view names[] = {"at trace", "at debug", "at info", "at warn", "at error"};
  for (uint8_t level = 0; level < 5; level++) {
    auto line = text(names[level]);
    wg_log_write(level, &line);
  }
  for (auto piece : {"printed in ", "pieces\n"}) {
    auto printed = bytes(piece);
    wg_log_print(&printed);
  }
  return word(wg_log_max_level() == WG_LOG_LEVEL_TRACE);
}

// The text of a failure that the gateway gives.
string refusal(const std::function<bool(wg_string_t *)> &call) {
  wg_string_t why;
  if (call(&why)) return "not refused";
  string told(view(why));
  wg_string_free(&why);
  return told;
}

string state() {
  auto in = wg_shared_state_borrow_bucket(bucket);
  auto k = text("k"), n = text("n");
  auto v = bytes("v"), w = bytes("w"), x = bytes("x");
  auto get = [&] {
    wg_list_u8_t value;
    if (!wg_shared_state_method_bucket_get(in, &k, &value)) return string("-");
    return string(Bytes{&value});
  };
  std::vector<string> steps{get()};
  steps.push_back(word(wg_shared_state_method_bucket_set(in, &k, &v, 0)));
  steps.push_back(get());
  steps.push_back(std::to_string(wg_shared_state_method_bucket_increment(in, &n, 5, 0)));
  steps.push_back(std::to_string(wg_shared_state_method_bucket_increment(in, &n, -7, 60'000)));
  steps.push_back(word(wg_shared_state_method_bucket_compare_and_set(in, &k, &v, &w, 0)));
  steps.push_back(word(wg_shared_state_method_bucket_compare_and_set(in, &k, nullptr, &x, 0)));
  steps.push_back(get());
  wg_shared_state_method_bucket_remove(in, &k);
  steps.push_back(get());
  return joined(steps);
}

string rate() {
  std::vector<string> all;
  auto key = text("key");
  for (int time = 0; time < 3; time++) {
    wg_rate_limit_outcome_t outcome;
    wg_rate_limit_method_limiter_check(wg_rate_limit_borrow_limiter(limiter), &key, 1, &outcome);
    all.push_back(joined({word(outcome.allowed), std::to_string(outcome.remaining),
                          std::to_string(outcome.retry_after_millis)}, ","));
  }
  return joined(all);
}

string token(string_view from) {
  const char *const faults[] = {
      "malformed",    "unknown-key",   "bad-signature",     "expired",          "not-yet-valid", "bad-issuer",
      "bad-audience", "missing-claim", "algorithm-refused", "keys-unavailable",
  };
  auto borrowed = text(from);
  wg_string_t claims;
  wg_jwt_token_fault_t fault;
  if (!wg_jwt_method_verifier_verify(wg_jwt_borrow_verifier(verifier), &borrowed, &claims, &fault)) return faults[fault];
  string told(view(claims));
  wg_string_free(&claims);
  return told;
}

string consumer(string_view who, decltype(wg_consumers_identify_by_key) *identify) {
  const char *const refusals[] = {"unknown", "suspended", "expired", "not-subscribed", "quota-exceeded"};
  auto borrowed = text(who);
  wg_consumers_consumer_t found;
  wg_consumers_refusal_t why;
  if (!identify(&borrowed, &found, &why)) return refusals[why];
  auto product = found.product.is_some ? view(found.product.val) : "-";
  auto told = joined({string(view(found.name)), string(product)}, " ");
  wg_consumers_consumer_free(&found);
  return told;
}

string cryptography() {
  auto abc = bytes("abc"), none = bytes(""), a = bytes("a"), b = bytes("b");
  auto hash = [&](wg_crypto_digest_t digest, wg_list_u8_t *data) {
    wg_list_u8_t made;
    wg_crypto_hash(digest, data, &made);
    return string(Bytes{&made});
  };
  auto hmac = [&](string_view secret) {
    auto name = text(secret);
    wg_list_u8_t made;
    string tag;
    auto why = refusal([&](wg_string_t *err) {
      bool is_made = wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &name, &abc, &made, err);
      if (is_made) tag = hex(Bytes{&made});
      return is_made;
    });
    return tag.empty() ? why : tag;
  };
  auto verify = [&](string_view password) {
    auto given = text(password), phc = text(hashed);
    return word(wg_crypto_verify_password(&given, &phc));
  };
  return joined({hex(hash(WG_CRYPTO_DIGEST_SHA256, &abc)), std::to_string(hash(WG_CRYPTO_DIGEST_SHA384, &none).size()),
                 std::to_string(hash(WG_CRYPTO_DIGEST_SHA512, &none).size()), hmac("signing"), hmac("unknown"),
                 word(wg_crypto_equal(&a, &a)), word(wg_crypto_equal(&a, &b)), verify("password"), verify("passwort")});
}

string fetched(const wg_http_client_fetch_response_t &answer) {
  string_view header = "-";
  for (size_t at = 0; at < answer.headers.len; at++)
    if (view(answer.headers.ptr[at].f0) == "x-r") header = view(answer.headers.ptr[at].f1);
  return joined({std::to_string(answer.status), string(header), string(view(answer.body))}, " ");
}

const char *const fetch_errors[] = {"not-granted", "no-healthy-endpoint", "timeout",
                                    "connect",     "protocol",            "too-large"};

wg_http_client_fetch_request_t request(string_view upstream, wg_tuple2_string_string_t &header) {
  header = {text("x-h"), text("1")};
  return {text(upstream), text("POST"), text("/x?y=1"), {&header, 1}, bytes("hi"), 500};
}

string fetch(string_view upstream) {
  wg_tuple2_string_string_t header;
  auto asked = request(upstream, header);
  wg_http_client_fetch_response_t answer;
  wg_http_client_fetch_error_t error;
  if (!wg_http_client_fetch(&asked, &answer, &error)) return fetch_errors[error];
  auto told = fetched(answer);
  wg_http_client_fetch_response_free(&answer);
  return told;
}

string fetch_all() {
  wg_tuple2_string_string_t headers[2];
  wg_http_client_fetch_request_t asked[] = {request("backend", headers[0]), request("broken", headers[1])};
  wg_http_client_list_fetch_request_t all{asked, 2};
  wg_http_client_list_result_fetch_response_fetch_error_t answers;
  wg_http_client_fetch_all(&all, &answers);
  std::vector<string> told;
  for (size_t at = 0; at < answers.len; at++) {
    auto &one = answers.ptr[at];
    told.push_back(one.is_err ? fetch_errors[one.val.err] : fetched(one.val.ok));
  }
  wg_http_client_list_result_fetch_response_fetch_error_free(&answers);
  return joined(told);
}

string headers() {
  wg_list_tuple2_string_string_t all;
  wg_message_headers(&all);
  std::vector<string> told;
  for (size_t at = 0; at < all.len; at++)
    told.push_back(joined({string(view(all.ptr[at].f0)), string(view(all.ptr[at].f1))}, "="));
  wg_list_tuple2_string_string_free(&all);
  return joined(told, ",");
}

string measured() {
  wg_metrics_add(metrics[0], 2.5);
  wg_metrics_add(metrics[1], -1);
  wg_metrics_observe(metrics[2], 0.25);
  auto name = text("suite_late");
  wg_list_tuple2_string_string_t none{};
  uint32_t metric;
  return refusal([&](wg_string_t *err) { return wg_metrics_define(WG_METRICS_KIND_COUNTER, &name, &none, &metric, err); });
}

string opened_late() {
  auto name = text("suite");
  wg_shared_state_own_bucket_t late;
  return refusal([&](wg_string_t *err) { return wg_shared_state_static_bucket_open(&name, &late, err); });
}

// What the gateway answered; nothing for a scenario without a question.
std::optional<string> told(const Values &values) {
  auto first = values[0].value_or("");
  if (is("echo")) return joined(values);
  if (is("env")) return environment();
  if (is("log")) return lines();
  if (is("metrics")) return measured();
  if (is("message")) return headers();
  if (is("state")) return state();
  if (is("late-open")) return opened_late();
  if (is("rate")) return rate();
  if (is("jwt")) return token(first);
  if (is("by-key")) return consumer(first, wg_consumers_identify_by_key);
  if (is("by-name")) return consumer(first, wg_consumers_identify_by_name);
  if (is("crypto")) return cryptography();
  if (is("fetch")) return fetch("backend");
  if (is("fetch-ungranted")) return fetch("elsewhere");
  if (is("fetch-all")) return fetch_all();
  return std::nullopt;
}

wg_types_list_edit_t edited(string_view result) {
  wg_verdict_t made;
  Verdict(&made).set("x-result", result);
  return made.val.amend;
}

bool on_body(wg_list_u8_t *received, wg_list_u8_t *noted, wg_body_verdict_t *ret, wg_string_t *err) {
  Bytes body{received}, note{noted};
  *ret = {};
  if (is("body-amend")) {
    ret->tag = WG_TYPES_BODY_VERDICT_AMEND;
    ret->val.amend = edited(joined({std::to_string(received->len), string(note)}));
  } else if (is("body-replace")) {
    auto replaced = owned(upper(body));
    ret->tag = WG_TYPES_BODY_VERDICT_REPLACE;
    ret->val.replace = {{replaced.ptr, replaced.len}, edited(std::to_string(received->len))};
  } else if (is("body-respond")) {
    ret->tag = WG_TYPES_BODY_VERDICT_RESPOND;
    teapot(ret->val.respond, 418);
  } else if (is("body-error")) {
    return fail(err, "as told");
  }
  return true;
}

} // namespace

void exports_wg_config_schema(wg_string_t *ret) {
  *ret = owned(
      R"({"type":"object","properties":{"do":{"type":"string"}},"required":["do"],"additionalProperties":false})");
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  scenario = view(wg_member(*config, "do"));
  wg_string_free(config);
  if (!make(err)) return false;
  if (is("message"))
    plan(wg_plan_request_reads, {"x-a", ":path", "client:ip", "query:q", "headers:*"});
  else if (is("unknown-read"))
    plan(wg_plan_request_reads, {"no such:name"});
  else
    plan(wg_plan_request_reads, {"x-a", ":path", "client:ip", "query:q"});
  plan(wg_plan_response_reads, {":status", "x-b"});
  plan(wg_plan_log_reads, {":status", "answered:by"});
  plan(wg_plan_writes, {"x-*"});
  return true;
}

bool exports_wg_on_request(wg_values_t *received, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Verdict verdict(ret);
  if (is("error") || is("skip")) return fail(err, "as told");
  if (is("trap")) __builtin_trap();
  if (is("spin"))
    for (volatile bool is_on = true; is_on;) {}
  if (is("grow"))
    for (;;) kept.push_back(std::make_unique<string>(1 << 20, 'x'));
  if (is("edits")) verdict.set("x-set", "1").append("x-append", "2").remove("x-remove").note("n\u00e4");
  if (is("body-amend")) verdict.note("from headers");
  if (is("respond")) teapot(verdict.respond(), 418);
  if (is("bad-status")) teapot(verdict.respond(), 99);
  if (is("undeclared")) verdict.set("undeclared", "1");
  if (is("forbidden-value")) verdict.set("x-set", "a\r\nb: c");
  if (is("many-edits"))
    for (int edits = 0; edits < 1000; edits++) verdict.set("x-set", "1");
  if (auto result = told(values)) verdict.set("x-result", *result);
  return true;
}

bool exports_wg_on_response(wg_values_t *received, wg_list_u8_t *noted, wg_verdict_t *ret, wg_string_t *err) {
  Values values(received);
  Bytes note{noted};
  Verdict verdict(ret);
  if (is("edits") || is("echo")) verdict.set("x-response", joined({joined(values), string(note)}));
  if (is("response-respond")) teapot(verdict.respond(), 418);
  return is("response-error") ? fail(err, "as told") : true;
}

bool exports_wg_on_request_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  return on_body(body, note, ret, err);
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  return on_body(body, note, ret, err);
}

struct exports_wg_body_stream_body_filter_t {
  string which;
  int chunks = 0;
};

exports_wg_body_stream_own_body_filter_t
exports_wg_body_stream_constructor_body_filter(exports_wg_body_stream_direction_t which, wg_list_u8_t *note) {
  wg_list_u8_free(note);
  auto name = which == EXPORTS_WG_BODY_STREAM_DIRECTION_REQUEST ? "request" : "response";
  return exports_wg_body_stream_body_filter_new(new exports_wg_body_stream_body_filter_t{name});
}

void exports_wg_body_stream_body_filter_destructor(exports_wg_body_stream_body_filter_t *filter) { delete filter; }

bool exports_wg_body_stream_method_body_filter_chunk(exports_wg_body_stream_borrow_body_filter_t filter,
                                                     wg_list_u8_t *received, bool last,
                                                     exports_wg_body_stream_chunk_verdict_t *ret, wg_string_t *err) {
  Bytes data{received};
  *ret = {};
  filter->chunks++;
  if (is("stream-replace")) {
    auto passed = owned(joined({filter->which, std::to_string(filter->chunks), upper(data), word(last)}, " ") + ";");
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
    ret->val.replace = {passed.ptr, passed.len};
  } else if (is("stream-swallow") && !last) {
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
  } else if (is("stream-abort")) {
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_ABORT;
    ret->val.abort = owned("as told");
  }
  return is("stream-error") ? fail(err, "as told") : true;
}

bool exports_wg_on_log(wg_list_values_t *entries, wg_string_t *err) {
  for (size_t at = 0; at < entries->len; at++) {
    auto told = "entry " + joined(Values(&entries->ptr[at])); // which frees the entry
    auto line = text(told);
    wg_log_write(WG_LOG_LEVEL_INFO, &line);
  }
  if (entries->len) free(entries->ptr);
  return is("log-error") ? fail(err, "as told") : true;
}

bool exports_wg_on_tick(wg_string_t *err) {
  auto line = text("tick");
  wg_log_write(WG_LOG_LEVEL_INFO, &line);
  return true;
}
