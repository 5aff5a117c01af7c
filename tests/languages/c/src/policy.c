// The conformance suite's guest in C: each scenario of ../suite.yaml, as ../rust does it.
#include "witgate.h"

static char scenario[32];
static wg_shared_state_own_bucket_t bucket;
static wg_rate_limit_own_limiter_t limiter;
static wg_jwt_own_verifier_t verifier;
static uint32_t metrics[3];
void *volatile kept; // so that an allocation is not taken for nothing

#define BYTES(text) ((wg_list_u8_t){.ptr = (uint8_t *)(text), .len = strlen(text)})
#define HASHED "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA"

static bool is(const char *name) { return !strcmp(scenario, name); }
static bool begins(const char *name) { return !strncmp(scenario, name, strlen(name)); }
static const char *word(bool truth) { return truth ? "true" : "false"; }

// Adds to a text that grows.
static void add(wg_string_t *to, const char *format, ...) {
  va_list words, again;
  va_start(words, format);
  va_copy(again, words);
  size_t len = (size_t)vsnprintf(NULL, 0, format, words);
  to->ptr = realloc(to->ptr, to->len + len + 1);
  vsnprintf((char *)to->ptr + to->len, len + 1, format, again);
  to->len += len;
  va_end(words), va_end(again);
}

static wg_string_t joined(const wg_types_values_t *values) {
  wg_string_t all = {0};
  for (size_t at = 0; at < values->len; at++) {
    wg_string_t value = values->ptr[at].is_some ? values->ptr[at].val : WG("-");
    add(&all, "%s%.*s", at ? "|" : "", WG_TEXT(value));
  }
  return all;
}

static void hex(wg_string_t *to, wg_list_u8_t bytes) {
  for (size_t at = 0; at < bytes.len; at++) add(to, "%02x", bytes.ptr[at]);
}

static void teapot(wg_types_reply_t *reply, uint16_t status) {
  static const char *const fields[3][2] = {{"content-type", "text/plain"}, {"x-two", "1"}, {"x-two", "2"}};
  wg_string_t body = wg_format("short and stout");
  *reply = (wg_types_reply_t){.status = status, .body = {.ptr = body.ptr, .len = body.len}};
  reply->headers.ptr = wg_alloc(3 * sizeof *reply->headers.ptr), reply->headers.len = 3;
  for (int at = 0; at < 3; at++) {
    reply->headers.ptr[at].f0 = wg_copy(fields[at][0], strlen(fields[at][0]));
    reply->headers.ptr[at].f1 = wg_copy(fields[at][1], strlen(fields[at][1]));
  }
}

void exports_wg_config_schema(wg_string_t *ret) {
  wg_string_dup(ret, "{\"type\":\"object\",\"properties\":{\"do\":{\"type\":\"string\"}},\"required\":[\"do\"],"
                     "\"additionalProperties\":false}");
}

static bool make(wg_string_t *err) {
  if (is("refuse")) return wg_fail(err, wg_format("refused as told"));
  if (is("skip")) wg_plan_on_error(WG_TYPES_FALLBACK_SKIP);
  if (is("tick")) wg_plan_tick_millis(1000);
  if (is("open-ungranted")) return wg_shared_state_static_bucket_open(&WG("other"), &bucket, err);
  if (is("state")) return wg_shared_state_static_bucket_open(&WG("suite"), &bucket, err);
  if (is("rate")) {
    wg_rate_limit_quota_t quota = {.count = 2, .period_millis = 60000};
    return wg_rate_limit_static_limiter_create(&WG("suite"), &quota, &limiter, err);
  }
  if (is("jwt")) {
    wg_jwt_key_source_t key = {.tag = WG_JWT_KEY_SOURCE_SECRET, .val.secret = WG("signing")};
    wg_jwt_rules_t rules = {.keys = {&key, 1},
                            .issuers = *WG_LIST(WG("https://issuer.example")),
                            .required_claims = *WG_LIST(WG("sub"))};
    return wg_jwt_static_verifier_create(&rules, &verifier, err);
  }
  if (is("metrics")) {
    const char *const names[] = {"suite_total", "suite_level", "suite_seconds"};
    wg_tuple2_string_string_t label = {WG("kind"), WG("suite")};
    wg_list_tuple2_string_string_t labels = {&label, 1};
    for (uint8_t kind = 0; kind < 3; kind++)
      if (!wg_metrics_define(kind, &WG(names[kind]), &labels, &metrics[kind], err)) return false;
  }
  if (begins("body-")) {
    wg_plan_request_body(WG_TYPES_BODY_MODE_BUFFER, 1000);
    wg_plan_response_body(WG_TYPES_BODY_MODE_BUFFER, 1000);
  }
  if (begins("stream-")) {
    wg_plan_request_body(WG_TYPES_BODY_MODE_STREAM, 0);
    wg_plan_response_body(WG_TYPES_BODY_MODE_STREAM, 0);
  }
  return true;
}

bool exports_wg_configure(wg_string_t *config, wg_string_t *err) {
  wg_string_t name = wg_member(*config, "do");
  snprintf(scenario, sizeof scenario, "%.*s", WG_TEXT(name));
  wg_string_free(config);
  if (!make(err)) return false;
  wg_string_t more = is("message") ? WG("headers:*") : is("unknown-read") ? WG("no such:name") : WG("x-a");
  wg_plan_request_reads(WG_LIST(WG("x-a"), WG(":path"), WG("client:ip"), WG("query:q")));
  if (is("message") || is("unknown-read"))
    wg_plan_request_reads(WG_LIST(WG("x-a"), WG(":path"), WG("client:ip"), WG("query:q"), more));
  wg_plan_response_reads(WG_LIST(WG(":status"), WG("x-b")));
  wg_plan_log_reads(WG_LIST(WG(":status"), WG("answered:by")));
  wg_plan_writes(WG_LIST(WG("x-*")));
  return true;
}

static void environment(wg_string_t *to) {
  uint64_t millis = wg_env_unix_millis(), nanos = wg_env_unix_nanos(), earlier = wg_env_monotonic_nanos();
  bool is_steady = earlier <= wg_env_monotonic_nanos(), differ = wg_env_random_u64() != wg_env_random_u64();
  wg_list_u8_t bytes;
  wg_env_random_bytes(5, &bytes);
  add(to, "%llu|%s|%s|%s|%zu", millis, word(nanos / 1000000 == millis), word(is_steady), word(differ), bytes.len);
  wg_list_u8_free(&bytes);
}

static void lines(wg_string_t *to) {
  const char *const names[] = {"at trace", "at debug", "at info", "at warn", "at error"};
  for (uint8_t level = 0; level < 5; level++) wg_log_write(level, &WG(names[level]));
  wg_log_print(&BYTES("printed in "));
  wg_log_print(&BYTES("pieces\n"));
  add(to, "%s", word(wg_log_max_level() == WG_LOG_LEVEL_TRACE));
}

static void get(wg_string_t *to, const char *separator) {
  wg_list_u8_t value;
  bool is_there = wg_shared_state_method_bucket_get(wg_shared_state_borrow_bucket(bucket), &WG("k"), &value);
  add(to, "%s%.*s", separator, WG_TEXT(is_there ? value : BYTES("-")));
  if (is_there) wg_list_u8_free(&value);
}

static void state(wg_string_t *to) {
  wg_shared_state_borrow_bucket_t in = wg_shared_state_borrow_bucket(bucket);
  wg_string_t k = WG("k"), n = WG("n");
  get(to, "");
  add(to, "|%s", word(wg_shared_state_method_bucket_set(in, &k, &BYTES("v"), 0)));
  get(to, "|");
  add(to, "|%lld", wg_shared_state_method_bucket_increment(in, &n, 5, 0));
  add(to, "|%lld", wg_shared_state_method_bucket_increment(in, &n, -7, 60000));
  add(to, "|%s", word(wg_shared_state_method_bucket_compare_and_set(in, &k, &BYTES("v"), &BYTES("w"), 0)));
  add(to, "|%s", word(wg_shared_state_method_bucket_compare_and_set(in, &k, NULL, &BYTES("x"), 0)));
  get(to, "|");
  wg_shared_state_method_bucket_remove(in, &k);
  get(to, "|");
}

static void rate(wg_string_t *to) {
  for (int time = 0; time < 3; time++) {
    wg_rate_limit_outcome_t outcome;
    wg_rate_limit_method_limiter_check(wg_rate_limit_borrow_limiter(limiter), &WG("key"), 1, &outcome);
    add(to, "%s%s,%u,%u", time ? "|" : "", word(outcome.allowed), outcome.remaining, outcome.retry_after_millis);
  }
}

static void token(wg_string_t *to, wg_string_t *from) {
  static const char *const faults[] = {
      "malformed",    "unknown-key",   "bad-signature",     "expired",          "not-yet-valid", "bad-issuer",
      "bad-audience", "missing-claim", "algorithm-refused", "keys-unavailable",
  };
  wg_jwt_token_fault_t fault;
  wg_string_t claims;
  bool is_good = wg_jwt_method_verifier_verify(wg_jwt_borrow_verifier(verifier), from, &claims, &fault);
  add(to, "%.*s", WG_TEXT(is_good ? claims : WG(faults[fault])));
  if (is_good) wg_string_free(&claims);
}

static void consumer(wg_string_t *to, wg_string_t *who, bool by_key) {
  static const char *const refusals[] = {"unknown", "suspended", "expired", "not-subscribed", "quota-exceeded"};
  wg_consumers_consumer_t found;
  wg_consumers_refusal_t refusal;
  bool is_known = by_key ? wg_consumers_identify_by_key(who, &found, &refusal)
                         : wg_consumers_identify_by_name(who, &found, &refusal);
  if (!is_known) return add(to, "%s", refusals[refusal]);
  add(to, "%.*s %.*s", WG_TEXT(found.name), WG_TEXT(found.product.is_some ? found.product.val : WG("-")));
  wg_consumers_consumer_free(&found);
}

static void cryptography(wg_string_t *to) {
  wg_list_u8_t made;
  wg_string_t why, password = WG("password"), wrong = WG("passwort"), phc = WG(HASHED);
  wg_crypto_hash(WG_CRYPTO_DIGEST_SHA256, &BYTES("abc"), &made), hex(to, made), wg_list_u8_free(&made);
  wg_crypto_hash(WG_CRYPTO_DIGEST_SHA384, &BYTES(""), &made), add(to, "|%zu", made.len), wg_list_u8_free(&made);
  wg_crypto_hash(WG_CRYPTO_DIGEST_SHA512, &BYTES(""), &made), add(to, "|%zu|", made.len), wg_list_u8_free(&made);
  if (wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &WG("signing"), &BYTES("abc"), &made, &why))
    hex(to, made), wg_list_u8_free(&made);
  if (!wg_crypto_hmac(WG_CRYPTO_DIGEST_SHA256, &WG("unknown"), &BYTES("abc"), &made, &why))
    add(to, "|%.*s", WG_TEXT(why)), wg_string_free(&why);
  add(to, "|%s|%s", word(wg_crypto_equal(&BYTES("a"), &BYTES("a"))), word(wg_crypto_equal(&BYTES("a"), &BYTES("b"))));
  add(to, "|%s|%s", word(wg_crypto_verify_password(&password, &phc)), word(wg_crypto_verify_password(&wrong, &phc)));
}

static wg_http_client_fetch_request_t request(const char *upstream, wg_tuple2_string_string_t *header) {
  *header = (wg_tuple2_string_string_t){WG("x-h"), WG("1")};
  return (wg_http_client_fetch_request_t){
      WG(upstream), WG("POST"), WG("/x?y=1"), {header, 1}, BYTES("hi"), 500,
  };
}

static void answered(wg_string_t *to, const wg_http_client_fetch_response_t *answer, int error) {
  static const char *const errors[] = {"not-granted", "no-healthy-endpoint", "timeout",
                                       "connect",     "protocol",            "too-large"};
  if (!answer) return add(to, "%s", errors[error]);
  wg_string_t header = WG("-");
  for (size_t at = 0; at < answer->headers.len; at++)
    if (wg_is(answer->headers.ptr[at].f0, WG("x-r"))) header = answer->headers.ptr[at].f1;
  add(to, "%u %.*s %.*s", answer->status, WG_TEXT(header), WG_TEXT(answer->body));
}

static void fetch(wg_string_t *to, const char *upstream) {
  wg_tuple2_string_string_t header;
  wg_http_client_fetch_request_t asked = request(upstream, &header);
  wg_http_client_fetch_response_t answer;
  wg_http_client_fetch_error_t error;
  bool is_answered = wg_http_client_fetch(&asked, &answer, &error);
  answered(to, is_answered ? &answer : NULL, is_answered ? 0 : error);
  if (is_answered) wg_http_client_fetch_response_free(&answer);
}

static void fetch_all(wg_string_t *to) {
  wg_tuple2_string_string_t headers[2];
  wg_http_client_fetch_request_t asked[] = {request("backend", &headers[0]), request("broken", &headers[1])};
  wg_http_client_list_fetch_request_t all = {asked, 2};
  wg_http_client_list_result_fetch_response_fetch_error_t answers;
  wg_http_client_fetch_all(&all, &answers);
  for (size_t at = 0; at < answers.len; at++) {
    wg_http_client_result_fetch_response_fetch_error_t *one = &answers.ptr[at];
    if (at) add(to, "|");
    answered(to, one->is_err ? NULL : &one->val.ok, one->is_err ? one->val.err : 0);
  }
  wg_http_client_list_result_fetch_response_fetch_error_free(&answers);
}

static void headers(wg_string_t *to) {
  wg_list_tuple2_string_string_t all;
  wg_message_headers(&all);
  for (size_t at = 0; at < all.len; at++)
    add(to, "%s%.*s=%.*s", at ? "," : "", WG_TEXT(all.ptr[at].f0), WG_TEXT(all.ptr[at].f1));
  wg_list_tuple2_string_string_free(&all);
}

static void late(wg_string_t *to) {
  wg_shared_state_own_bucket_t opened;
  wg_list_tuple2_string_string_t none = {0};
  uint32_t metric;
  wg_string_t why = {0};
  if (is("metrics")) {
    wg_metrics_add(metrics[0], 2.5);
    wg_metrics_add(metrics[1], -1);
    wg_metrics_observe(metrics[2], 0.25);
    wg_metrics_define(WG_METRICS_KIND_COUNTER, &WG("suite_late"), &none, &metric, &why);
  } else {
    wg_shared_state_static_bucket_open(&WG("suite"), &opened, &why);
  }
  add(to, "%.*s", WG_TEXT(why));
  wg_string_free(&why);
}

static bool on_request(const wg_values_t *values, wg_verdict_t *ret, wg_string_t *err) {
  wg_string_t result = {0}, first = values->ptr[0].is_some ? values->ptr[0].val : WG("");
  *ret = (wg_verdict_t){0};
  if (is("error") || is("skip")) return wg_fail(err, wg_format("as told"));
  if (is("trap")) __builtin_trap();
  if (is("spin"))
    for (volatile int turns = 0;; turns++) {}
  if (is("grow"))
    for (;;) kept = memset(wg_alloc(1 << 20), 1, 1 << 20);
  if (is("respond") || is("bad-status")) {
    ret->tag = WG_TYPES_VERDICT_RESPOND;
    teapot(&ret->val.respond, is("respond") ? 418 : 99);
  }
  if (is("edits")) {
    wg_set(ret, "x-set", wg_format("1"));
    wg_append(ret, "x-append", wg_format("2"));
    wg_edit(ret, WG_TYPES_EDIT_REMOVE)->val.remove = wg_format("x-remove");
    wg_note(ret, "n\xc3\xa4", 3);
  }
  if (is("body-amend")) wg_note(ret, "from headers", 12);
  if (is("undeclared")) wg_set(ret, "undeclared", wg_format("1"));
  if (is("forbidden-value")) wg_set(ret, "x-set", wg_format("a\r\nb: c"));
  if (is("many-edits"))
    for (int edits = 0; edits < 1000; edits++) wg_set(ret, "x-set", wg_format("1"));
  if (is("echo")) result = joined(values);
  if (is("env")) environment(&result);
  if (is("log")) lines(&result);
  if (is("message")) headers(&result);
  if (is("state")) state(&result);
  if (is("metrics") || is("late-open")) late(&result);
  if (is("rate")) rate(&result);
  if (is("jwt")) token(&result, &first);
  if (is("by-key") || is("by-name")) consumer(&result, &first, is("by-key"));
  if (is("crypto")) cryptography(&result);
  if (is("fetch")) fetch(&result, "backend");
  if (is("fetch-ungranted")) fetch(&result, "elsewhere");
  if (is("fetch-all")) fetch_all(&result);
  if (result.ptr) wg_set(ret, "x-result", result);
  return true;
}

bool exports_wg_on_request(wg_values_t *values, wg_verdict_t *ret, wg_string_t *err) {
  bool is_good = on_request(values, ret, err);
  wg_values_free(values);
  return is_good;
}

bool exports_wg_on_response(wg_values_t *values, wg_list_u8_t *note, wg_verdict_t *ret, wg_string_t *err) {
  bool is_good = true;
  *ret = (wg_verdict_t){0};
  if (is("edits") || is("echo")) {
    wg_string_t text = joined(values);
    add(&text, "|%.*s", WG_TEXT(*note));
    wg_set(ret, "x-response", text);
  } else if (is("response-respond")) {
    ret->tag = WG_TYPES_VERDICT_RESPOND;
    teapot(&ret->val.respond, 418);
  } else if (is("response-error")) {
    is_good = wg_fail(err, wg_format("as told"));
  }
  wg_values_free(values), wg_list_u8_free(note);
  return is_good;
}

static void edited(wg_types_list_edit_t *edits, wg_string_t result) {
  wg_verdict_t verdict = {0};
  wg_set(&verdict, "x-result", result);
  *edits = verdict.val.amend;
}

static void upper(wg_list_u8_t *bytes) {
  for (size_t at = 0; at < bytes->len; at++)
    if (bytes->ptr[at] >= 'a' && bytes->ptr[at] <= 'z') bytes->ptr[at] -= 'a' - 'A';
}

static bool on_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  bool is_good = true, is_kept = false;
  *ret = (wg_body_verdict_t){0};
  if (is("body-amend")) {
    ret->tag = WG_TYPES_BODY_VERDICT_AMEND;
    edited(&ret->val.amend, wg_format("%zu|%.*s", body->len, WG_TEXT(*note)));
  } else if (is("body-replace")) {
    upper(body), is_kept = true;
    ret->tag = WG_TYPES_BODY_VERDICT_REPLACE;
    ret->val.replace.f0 = *body;
    edited(&ret->val.replace.f1, wg_format("%zu", body->len));
  } else if (is("body-respond")) {
    ret->tag = WG_TYPES_BODY_VERDICT_RESPOND;
    teapot(&ret->val.respond, 418);
  } else if (is("body-error")) {
    is_good = wg_fail(err, wg_format("as told"));
  }
  if (!is_kept) wg_list_u8_free(body);
  wg_list_u8_free(note);
  return is_good;
}

bool exports_wg_on_request_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  return on_body(body, note, ret, err);
}

bool exports_wg_on_response_body(wg_list_u8_t *body, wg_list_u8_t *note, wg_body_verdict_t *ret, wg_string_t *err) {
  return on_body(body, note, ret, err);
}

struct exports_wg_body_stream_body_filter_t {
  const char *which;
  unsigned chunks;
};

exports_wg_body_stream_own_body_filter_t
exports_wg_body_stream_constructor_body_filter(exports_wg_body_stream_direction_t which, wg_list_u8_t *note) {
  exports_wg_body_stream_body_filter_t *filter = wg_alloc(sizeof *filter);
  wg_list_u8_free(note);
  filter->which = which == EXPORTS_WG_BODY_STREAM_DIRECTION_REQUEST ? "request" : "response";
  filter->chunks = 0;
  return exports_wg_body_stream_body_filter_new(filter);
}

void exports_wg_body_stream_body_filter_destructor(exports_wg_body_stream_body_filter_t *filter) { free(filter); }

bool exports_wg_body_stream_method_body_filter_chunk(exports_wg_body_stream_borrow_body_filter_t filter,
                                                     wg_list_u8_t *data, bool last,
                                                     exports_wg_body_stream_chunk_verdict_t *ret, wg_string_t *err) {
  bool is_good = true;
  *ret = (exports_wg_body_stream_chunk_verdict_t){0};
  filter->chunks++;
  if (is("stream-replace")) {
    upper(data);
    wg_string_t text = wg_format("%s %u %.*s %s;", filter->which, filter->chunks, WG_TEXT(*data), word(last));
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
    ret->val.replace = (wg_list_u8_t){.ptr = text.ptr, .len = text.len};
  } else if (is("stream-swallow") && !last) {
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
  } else if (is("stream-abort")) {
    ret->tag = EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_ABORT;
    ret->val.abort = wg_format("as told");
  } else if (is("stream-error")) {
    is_good = wg_fail(err, wg_format("as told"));
  }
  wg_list_u8_free(data);
  return is_good;
}

bool exports_wg_on_log(wg_list_values_t *entries, wg_string_t *err) {
  for (size_t at = 0; at < entries->len; at++) {
    wg_string_t text = joined(&entries->ptr[at]), line = wg_format("entry %.*s", WG_TEXT(text));
    wg_log_write(WG_LOG_LEVEL_INFO, &line);
    wg_string_free(&text), wg_string_free(&line);
  }
  wg_list_values_free(entries);
  return is("log-error") ? wg_fail(err, wg_format("as told")) : true;
}

bool exports_wg_on_tick(wg_string_t *err) {
  wg_log_write(WG_LOG_LEVEL_INFO, &WG("tick"));
  return true;
}
