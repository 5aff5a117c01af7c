//! The conformance suite's guest in Zig: each scenario of ../../suite.yaml, as ../../rust does it.
const std = @import("std");
const witgate = @import("witgate");
const wg = witgate.wg;

const view = witgate.view;
const text = witgate.text;
const bytes = witgate.bytes;
const owned = witgate.owned;
const eql = std.mem.eql;

/// Of "password", and made weak so that it is quick.
const hashed = "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA";

// What `configure` made for the scenario.
var scenario: []const u8 = "";
var bucket: wg.wg_shared_state_own_bucket_t = undefined;
var limiter: wg.wg_rate_limit_own_limiter_t = undefined;
var verifier: wg.wg_jwt_own_verifier_t = undefined;
var metrics: [3]u32 = undefined;

fn is(name: []const u8) bool {
    return eql(u8, scenario, name);
}

fn fail(err: *wg.wg_string_t, why: []const u8) bool {
    return witgate.fail(err, owned(why));
}

/// A text that grows; its memory is the caller's.
const Text = struct {
    all: []u8 = &.{},

    fn add(self: *Text, comptime format: []const u8, arguments: anytype) void {
        const more = view(witgate.print(format, arguments));
        defer witgate.allocator.free(more);
        const old = self.all.len;
        self.all = witgate.allocator.realloc(self.all, old + more.len) catch @panic("out of memory");
        @memcpy(self.all[old..], more);
    }

    fn values(self: *Text, list: [*c]const wg.wg_values_t) void {
        for (0..list.*.len) |at| {
            self.add("{s}{s}", .{ if (at > 0) "|" else "", witgate.value(list, at) orelse "-" });
        }
    }

    fn hex(self: *Text, data: []const u8) void {
        for (data) |byte| self.add("{x:0>2}", .{byte});
    }
};

fn upper(data: []u8) void {
    for (data) |*letter| letter.* = std.ascii.toUpper(letter.*);
}

fn teapot(reply: *wg.wg_types_reply_t, status: u16) void {
    const fields = [_][2][]const u8{ .{ "content-type", "text/plain" }, .{ "x-two", "1" }, .{ "x-two", "2" } };
    const lists = witgate.allocator.alloc(wg.wg_tuple2_string_string_t, 3) catch @panic("out of memory");
    for (lists, fields) |*header, field| header.* = .{ .f0 = owned(field[0]), .f1 = owned(field[1]) };
    const body = owned("short and stout");
    reply.* = .{
        .status = status,
        .headers = .{ .ptr = lists.ptr, .len = lists.len },
        .body = .{ .ptr = body.ptr, .len = body.len },
    };
}

export fn exports_wg_config_schema(ret: *wg.wg_string_t) void {
    ret.* = owned(
        \\{"type":"object","properties":{"do":{"type":"string"}},"required":["do"],"additionalProperties":false}
    );
}

fn make(err: *wg.wg_string_t) bool {
    var other = text("other");
    var suite = text("suite");
    if (is("refuse")) return fail(err, "refused as told");
    if (is("skip")) wg.wg_plan_on_error(wg.WG_TYPES_FALLBACK_SKIP);
    if (is("tick")) wg.wg_plan_tick_millis(1000);
    if (is("open-ungranted")) return wg.wg_shared_state_static_bucket_open(&other, &bucket, err);
    if (is("state")) return wg.wg_shared_state_static_bucket_open(&suite, &bucket, err);
    if (is("rate")) {
        var quota: wg.wg_rate_limit_quota_t = .{ .count = 2, .period_millis = 60_000, .burst = 0 };
        return wg.wg_rate_limit_static_limiter_create(&suite, &quota, &limiter, err);
    }
    if (is("jwt")) {
        var key: wg.wg_jwt_key_source_t = .{ .tag = wg.WG_JWT_KEY_SOURCE_SECRET, .val = .{ .secret = text("signing") } };
        var issuer = text("https://issuer.example");
        var claim = text("sub");
        var rules = std.mem.zeroes(wg.wg_jwt_rules_t);
        rules.keys = .{ .ptr = &key, .len = 1 };
        rules.issuers = .{ .ptr = &issuer, .len = 1 };
        rules.required_claims = .{ .ptr = &claim, .len = 1 };
        return wg.wg_jwt_static_verifier_create(&rules, &verifier, err);
    }
    if (is("metrics")) {
        var label: wg.wg_tuple2_string_string_t = .{ .f0 = text("kind"), .f1 = text("suite") };
        var labels: wg.wg_list_tuple2_string_string_t = .{ .ptr = &label, .len = 1 };
        for ([_][]const u8{ "suite_total", "suite_level", "suite_seconds" }, 0..) |name, kind| {
            var borrowed = text(name);
            if (!wg.wg_metrics_define(@intCast(kind), &borrowed, &labels, &metrics[kind], err)) return false;
        }
    }
    if (std.mem.startsWith(u8, scenario, "body-")) {
        wg.wg_plan_request_body(wg.WG_TYPES_BODY_MODE_BUFFER, 1000);
        wg.wg_plan_response_body(wg.WG_TYPES_BODY_MODE_BUFFER, 1000);
    }
    if (std.mem.startsWith(u8, scenario, "stream-")) {
        wg.wg_plan_request_body(wg.WG_TYPES_BODY_MODE_STREAM, 0);
        wg.wg_plan_response_body(wg.WG_TYPES_BODY_MODE_STREAM, 0);
    }
    return true;
}

export fn exports_wg_configure(config: *wg.wg_string_t, err: *wg.wg_string_t) bool {
    defer wg.wg_string_free(config);
    const Config = struct { do: []const u8 };
    const parsed = std.json.parseFromSlice(Config, witgate.allocator, view(config.*), .{}) catch |why|
        return fail(err, @errorName(why));
    defer parsed.deinit();
    scenario = view(owned(parsed.value.do));
    if (!make(err)) return false;
    const reads = [_][]const u8{ "x-a", ":path", "client:ip", "query:q", "headers:*" };
    witgate.plan(wg.wg_plan_request_reads, if (is("message")) &reads else reads[0..4]);
    if (is("unknown-read")) witgate.plan(wg.wg_plan_request_reads, &.{"no such:name"});
    witgate.plan(wg.wg_plan_response_reads, &.{ ":status", "x-b" });
    witgate.plan(wg.wg_plan_log_reads, &.{ ":status", "answered:by" });
    witgate.plan(wg.wg_plan_writes, &.{"x-*"});
    return true;
}

fn environment(to: *Text) void {
    const millis = wg.wg_env_unix_millis();
    const nanos = wg.wg_env_unix_nanos();
    const earlier = wg.wg_env_monotonic_nanos();
    const is_steady = earlier <= wg.wg_env_monotonic_nanos();
    const differ = wg.wg_env_random_u64() != wg.wg_env_random_u64();
    var drawn: wg.wg_list_u8_t = undefined;
    wg.wg_env_random_bytes(5, &drawn);
    defer wg.wg_list_u8_free(&drawn);
    to.add("{d}|{}|{}|{}|{d}", .{ millis, nanos / 1_000_000 == millis, is_steady, differ, drawn.len });
}

fn lines(to: *Text) void {
    for ([_][]const u8{ "at trace", "at debug", "at info", "at warn", "at error" }, 0..) |line, level| {
        var borrowed = text(line);
        wg.wg_log_write(@intCast(level), &borrowed);
    }
    for ([_][]const u8{ "printed in ", "pieces\n" }) |piece| {
        var borrowed = bytes(piece);
        wg.wg_log_print(&borrowed);
    }
    to.add("{}", .{wg.wg_log_max_level() == wg.WG_LOG_LEVEL_TRACE});
}

fn headers(to: *Text) void {
    var all: wg.wg_list_tuple2_string_string_t = undefined;
    wg.wg_message_headers(&all);
    defer wg.wg_list_tuple2_string_string_free(&all);
    for (0..all.len) |at| {
        to.add("{s}{s}={s}", .{ if (at > 0) "," else "", view(all.ptr[at].f0), view(all.ptr[at].f1) });
    }
}

/// Measures, or opens, where only `configure` may; the text of the refusal.
fn late(to: *Text) void {
    var why: wg.wg_string_t = undefined;
    var name = text(if (is("metrics")) "suite_late" else "suite");
    const is_made = if (is("metrics")) measured: {
        wg.wg_metrics_add(metrics[0], 2.5);
        wg.wg_metrics_add(metrics[1], -1);
        wg.wg_metrics_observe(metrics[2], 0.25);
        var none = std.mem.zeroes(wg.wg_list_tuple2_string_string_t);
        var metric: u32 = undefined;
        break :measured wg.wg_metrics_define(wg.WG_METRICS_KIND_COUNTER, &name, &none, &metric, &why);
    } else opened: {
        var opened: wg.wg_shared_state_own_bucket_t = undefined;
        break :opened wg.wg_shared_state_static_bucket_open(&name, &opened, &why);
    };
    if (is_made) return;
    defer wg.wg_string_free(&why);
    to.add("{s}", .{view(why)});
}

fn get(to: *Text, separator: []const u8) void {
    var key = text("k");
    var value: wg.wg_list_u8_t = undefined;
    const is_there = wg.wg_shared_state_method_bucket_get(wg.wg_shared_state_borrow_bucket(bucket), &key, &value);
    defer if (is_there) wg.wg_list_u8_free(&value);
    to.add("{s}{s}", .{ separator, if (is_there) view(value) else "-" });
}

fn state(to: *Text) void {
    const in = wg.wg_shared_state_borrow_bucket(bucket);
    var k = text("k");
    var n = text("n");
    var v = bytes("v");
    var w = bytes("w");
    var x = bytes("x");
    get(to, "");
    to.add("|{}", .{wg.wg_shared_state_method_bucket_set(in, &k, &v, 0)});
    get(to, "|");
    to.add("|{d}", .{wg.wg_shared_state_method_bucket_increment(in, &n, 5, 0)});
    to.add("|{d}", .{wg.wg_shared_state_method_bucket_increment(in, &n, -7, 60_000)});
    to.add("|{}", .{wg.wg_shared_state_method_bucket_compare_and_set(in, &k, &v, &w, 0)});
    to.add("|{}", .{wg.wg_shared_state_method_bucket_compare_and_set(in, &k, null, &x, 0)});
    get(to, "|");
    wg.wg_shared_state_method_bucket_remove(in, &k);
    get(to, "|");
}

fn rate(to: *Text) void {
    var key = text("key");
    for (0..3) |time| {
        var outcome: wg.wg_rate_limit_outcome_t = undefined;
        wg.wg_rate_limit_method_limiter_check(wg.wg_rate_limit_borrow_limiter(limiter), &key, 1, &outcome);
        const separator = if (time > 0) "|" else "";
        to.add("{s}{},{d},{d}", .{ separator, outcome.allowed, outcome.remaining, outcome.retry_after_millis });
    }
}

fn token(to: *Text, from: []const u8) void {
    const faults = [_][]const u8{
        "malformed",   "unknown-key",  "bad-signature", "expired",           "not-yet-valid",
        "bad-issuer",  "bad-audience", "missing-claim", "algorithm-refused", "keys-unavailable",
    };
    var borrowed = text(from);
    var claims: wg.wg_string_t = undefined;
    var fault: wg.wg_jwt_token_fault_t = undefined;
    const of = wg.wg_jwt_borrow_verifier(verifier);
    if (!wg.wg_jwt_method_verifier_verify(of, &borrowed, &claims, &fault)) return to.add("{s}", .{faults[fault]});
    defer wg.wg_string_free(&claims);
    to.add("{s}", .{view(claims)});
}

fn consumer(to: *Text, who: []const u8) void {
    const refusals = [_][]const u8{ "unknown", "suspended", "expired", "not-subscribed", "quota-exceeded" };
    var borrowed = text(who);
    var found: wg.wg_consumers_consumer_t = undefined;
    var refusal: wg.wg_consumers_refusal_t = undefined;
    const is_known = if (is("by-key"))
        wg.wg_consumers_identify_by_key(&borrowed, &found, &refusal)
    else
        wg.wg_consumers_identify_by_name(&borrowed, &found, &refusal);
    if (!is_known) return to.add("{s}", .{refusals[refusal]});
    defer wg.wg_consumers_consumer_free(&found);
    to.add("{s} {s}", .{ view(found.name), if (found.product.is_some) view(found.product.val) else "-" });
}

fn hash(digest: wg.wg_crypto_digest_t, data: []const u8) wg.wg_list_u8_t {
    var borrowed = bytes(data);
    var made: wg.wg_list_u8_t = undefined;
    wg.wg_crypto_hash(digest, &borrowed, &made);
    return made;
}

fn hmac(to: *Text, secret: []const u8) void {
    var name = text(secret);
    var data = bytes("abc");
    var made: wg.wg_list_u8_t = undefined;
    var why: wg.wg_string_t = undefined;
    to.add("|", .{});
    if (wg.wg_crypto_hmac(wg.WG_CRYPTO_DIGEST_SHA256, &name, &data, &made, &why)) {
        defer wg.wg_list_u8_free(&made);
        to.hex(view(made));
    } else {
        defer wg.wg_string_free(&why);
        to.add("{s}", .{view(why)});
    }
}

fn cryptography(to: *Text) void {
    var made = hash(wg.WG_CRYPTO_DIGEST_SHA256, "abc");
    to.hex(view(made));
    wg.wg_list_u8_free(&made);
    for ([_]wg.wg_crypto_digest_t{ wg.WG_CRYPTO_DIGEST_SHA384, wg.WG_CRYPTO_DIGEST_SHA512 }) |digest| {
        made = hash(digest, "");
        to.add("|{d}", .{made.len});
        wg.wg_list_u8_free(&made);
    }
    hmac(to, "signing");
    hmac(to, "unknown");
    var a = bytes("a");
    var b = bytes("b");
    to.add("|{}|{}", .{ wg.wg_crypto_equal(&a, &a), wg.wg_crypto_equal(&a, &b) });
    for ([_][]const u8{ "password", "passwort" }) |password| {
        var given = text(password);
        var phc = text(hashed);
        to.add("|{}", .{wg.wg_crypto_verify_password(&given, &phc)});
    }
}

fn request(upstream: []const u8, header: *wg.wg_tuple2_string_string_t) wg.wg_http_client_fetch_request_t {
    header.* = .{ .f0 = text("x-h"), .f1 = text("1") };
    return .{
        .upstream = text(upstream),
        .method = text("POST"),
        .path = text("/x?y=1"),
        .headers = .{ .ptr = header, .len = 1 },
        .body = bytes("hi"),
        .timeout_millis = 500,
    };
}

const fetch_errors = [_][]const u8{
    "not-granted", "no-healthy-endpoint", "timeout", "connect", "protocol", "too-large",
};

fn answered(to: *Text, answer: *const wg.wg_http_client_fetch_response_t) void {
    var header: []const u8 = "-";
    for (0..answer.headers.len) |at| {
        if (eql(u8, view(answer.headers.ptr[at].f0), "x-r")) header = view(answer.headers.ptr[at].f1);
    }
    to.add("{d} {s} {s}", .{ answer.status, header, view(answer.body) });
}

fn fetch(to: *Text, upstream: []const u8) void {
    var header: wg.wg_tuple2_string_string_t = undefined;
    var asked = request(upstream, &header);
    var answer: wg.wg_http_client_fetch_response_t = undefined;
    var why: wg.wg_http_client_fetch_error_t = undefined;
    if (!wg.wg_http_client_fetch(&asked, &answer, &why)) return to.add("{s}", .{fetch_errors[why]});
    defer wg.wg_http_client_fetch_response_free(&answer);
    answered(to, &answer);
}

fn fetchAll(to: *Text) void {
    var fields: [2]wg.wg_tuple2_string_string_t = undefined;
    var asked = [_]wg.wg_http_client_fetch_request_t{ request("backend", &fields[0]), request("broken", &fields[1]) };
    var all: wg.wg_http_client_list_fetch_request_t = .{ .ptr = &asked, .len = asked.len };
    var answers: wg.wg_http_client_list_result_fetch_response_fetch_error_t = undefined;
    wg.wg_http_client_fetch_all(&all, &answers);
    defer wg.wg_http_client_list_result_fetch_response_fetch_error_free(&answers);
    for (0..answers.len) |at| {
        const one = answers.ptr[at];
        if (at > 0) to.add("|", .{});
        if (one.is_err) to.add("{s}", .{fetch_errors[one.val.err]}) else answered(to, &one.val.ok);
    }
}

/// What the gateway answered; false for a scenario without a question.
fn told(to: *Text, values: *const wg.wg_values_t) bool {
    const first = witgate.value(values, 0) orelse "";
    if (is("echo")) {
        to.values(values);
    } else if (is("env")) {
        environment(to);
    } else if (is("log")) {
        lines(to);
    } else if (is("message")) {
        headers(to);
    } else if (is("state")) {
        state(to);
    } else if (is("metrics") or is("late-open")) {
        late(to);
    } else if (is("rate")) {
        rate(to);
    } else if (is("jwt")) {
        token(to, first);
    } else if (is("by-key") or is("by-name")) {
        consumer(to, first);
    } else if (is("crypto")) {
        cryptography(to);
    } else if (is("fetch") or is("fetch-ungranted")) {
        fetch(to, if (is("fetch")) "backend" else "elsewhere");
    } else if (is("fetch-all")) {
        fetchAll(to);
    } else {
        return false;
    }
    return true;
}

export fn exports_wg_on_request(values: *wg.wg_values_t, ret: *wg.wg_verdict_t, err: *wg.wg_string_t) bool {
    defer wg.wg_values_free(values);
    const verdict = witgate.Verdict.init(ret);
    if (is("error") or is("skip")) return fail(err, "as told");
    if (is("trap")) @panic("trapped as told");
    if (is("spin")) {
        var turns: u32 = 0;
        while (true) std.mem.doNotOptimizeAway(&turns);
    }
    if (is("grow")) {
        while (true) {
            const kept = witgate.allocator.alloc(u8, 1 << 20) catch @panic("out of memory");
            @memset(kept, 1);
            std.mem.doNotOptimizeAway(kept.ptr);
        }
    }
    if (is("edits")) {
        verdict.set("x-set", "1");
        verdict.append("x-append", "2");
        verdict.remove("x-remove");
        verdict.note("nä");
    }
    if (is("body-amend")) verdict.note("from headers");
    if (is("respond")) teapot(verdict.respond(), 418);
    if (is("bad-status")) teapot(verdict.respond(), 99);
    if (is("undeclared")) verdict.set("undeclared", "1");
    if (is("forbidden-value")) verdict.set("x-set", "a\r\nb: c");
    if (is("many-edits")) {
        for (0..1_000) |_| verdict.set("x-set", "1");
    }
    var result: Text = .{};
    defer witgate.allocator.free(result.all);
    if (told(&result, values)) verdict.set("x-result", result.all);
    return true;
}

export fn exports_wg_on_response(
    values: *wg.wg_values_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_values_free(values);
    defer wg.wg_list_u8_free(note);
    const verdict = witgate.Verdict.init(ret);
    if (is("response-error")) return fail(err, "as told");
    if (is("response-respond")) teapot(verdict.respond(), 418);
    if (is("edits") or is("echo")) {
        var response: Text = .{};
        defer witgate.allocator.free(response.all);
        response.values(values);
        response.add("|{s}", .{view(note.*)});
        verdict.set("x-response", response.all);
    }
    return true;
}

fn edited(comptime format: []const u8, arguments: anytype) wg.wg_types_list_edit_t {
    var result: Text = .{};
    defer witgate.allocator.free(result.all);
    result.add(format, arguments);
    var made: wg.wg_verdict_t = undefined;
    witgate.Verdict.init(&made).set("x-result", result.all);
    return made.val.amend;
}

fn onBody(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_list_u8_free(note);
    ret.* = std.mem.zeroes(wg.wg_body_verdict_t);
    if (is("body-replace")) {
        upper(body.ptr[0..body.len]);
        ret.tag = wg.WG_TYPES_BODY_VERDICT_REPLACE;
        ret.val.replace = .{ .f0 = body.*, .f1 = edited("{d}", .{body.len}) };
        return true;
    }
    defer wg.wg_list_u8_free(body);
    if (is("body-error")) return fail(err, "as told");
    if (is("body-amend")) {
        ret.tag = wg.WG_TYPES_BODY_VERDICT_AMEND;
        ret.val.amend = edited("{d}|{s}", .{ body.len, view(note.*) });
    } else if (is("body-respond")) {
        ret.tag = wg.WG_TYPES_BODY_VERDICT_RESPOND;
        teapot(&ret.val.respond, 418);
    }
    return true;
}

export fn exports_wg_on_request_body(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    return onBody(body, note, ret, err);
}

export fn exports_wg_on_response_body(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    return onBody(body, note, ret, err);
}

const Filter = struct { which: []const u8, chunks: u32 = 0 };

export fn exports_wg_body_stream_constructor_body_filter(
    which: wg.exports_wg_body_stream_direction_t,
    note: *wg.wg_list_u8_t,
) wg.exports_wg_body_stream_own_body_filter_t {
    wg.wg_list_u8_free(note);
    const is_request = which == wg.EXPORTS_WG_BODY_STREAM_DIRECTION_REQUEST;
    const filter = witgate.allocator.create(Filter) catch @panic("out of memory");
    filter.* = .{ .which = if (is_request) "request" else "response" };
    return wg.exports_wg_body_stream_body_filter_new(@ptrCast(filter));
}

export fn exports_wg_body_stream_body_filter_destructor(filter: *Filter) void {
    witgate.allocator.destroy(filter);
}

export fn exports_wg_body_stream_method_body_filter_chunk(
    filter: *Filter,
    data: *wg.wg_list_u8_t,
    last: bool,
    ret: *wg.exports_wg_body_stream_chunk_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_list_u8_free(data);
    ret.* = std.mem.zeroes(wg.exports_wg_body_stream_chunk_verdict_t);
    filter.chunks += 1;
    if (is("stream-error")) return fail(err, "as told");
    if (is("stream-replace")) {
        upper(data.ptr[0..data.len]);
        const passed = witgate.print("{s} {d} {s} {};", .{ filter.which, filter.chunks, view(data.*), last });
        ret.tag = wg.EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
        ret.val.replace = .{ .ptr = passed.ptr, .len = passed.len };
    } else if (is("stream-swallow") and !last) {
        ret.tag = wg.EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_REPLACE;
    } else if (is("stream-abort")) {
        ret.tag = wg.EXPORTS_WG_BODY_STREAM_CHUNK_VERDICT_ABORT;
        ret.val.abort = owned("as told");
    }
    return true;
}

export fn exports_wg_on_log(entries: *wg.wg_list_values_t, err: *wg.wg_string_t) bool {
    defer wg.wg_list_values_free(entries);
    for (0..entries.len) |at| {
        var line: Text = .{};
        defer witgate.allocator.free(line.all);
        line.add("entry ", .{});
        line.values(&entries.ptr[at]);
        var borrowed = text(line.all);
        wg.wg_log_write(wg.WG_LOG_LEVEL_INFO, &borrowed);
    }
    return if (is("log-error")) fail(err, "as told") else true;
}

export fn exports_wg_on_tick(err: *wg.wg_string_t) bool {
    _ = err;
    var line = text("tick");
    wg.wg_log_write(wg.WG_LOG_LEVEL_INFO, &line);
    return true;
}
