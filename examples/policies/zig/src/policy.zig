//! Lets a webhook through if its signature is right, its time is now and its delivery is new. The sender signs
//! `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
const std = @import("std");
const witgate = @import("witgate");
const wg = witgate.wg;

const body_bytes = 65_536;
const verified = "verified";
const prefix = "sha256=";

const Config = struct { secret: []const u8, window: i64 = 300 };
const Outcome = enum { accepted, refused, replayed };

var config: Config = undefined;
var deliveries: wg.wg_shared_state_borrow_bucket_t = undefined;
var counted: [3]u32 = undefined;

export fn exports_wg_config_schema(ret: *wg.wg_string_t) void {
    ret.* = witgate.owned(
        \\{
        \\  "type": "object",
        \\  "properties": {
        \\    "secret": { "type": "string", "description": "The name of the secret." },
        \\    "window": { "type": "integer", "minimum": 1, "maximum": 86400, "description": "Seconds." }
        \\  },
        \\  "required": ["secret"],
        \\  "additionalProperties": false
        \\}
    );
}

export fn exports_wg_configure(text: *wg.wg_string_t, err: *wg.wg_string_t) bool {
    defer wg.wg_string_free(text);
    const read = std.json.parseFromSliceLeaky;
    config = read(Config, witgate.allocator, witgate.view(text.*), .{ .allocate = .alloc_always }) catch |why|
        return witgate.fail(err, witgate.print("{s}", .{@errorName(why)}));
    var bucket = witgate.text("deliveries");
    var opened: wg.wg_shared_state_own_bucket_t = undefined;
    if (!wg.wg_shared_state_static_bucket_open(&bucket, &opened, err)) return false;
    deliveries = wg.wg_shared_state_borrow_bucket(opened);
    var counter = witgate.text("webhook_signatures_total");
    for (std.enums.values(Outcome), &counted) |outcome, *metric| {
        var label: wg.wg_tuple2_string_string_t = .{ .f0 = witgate.text("outcome"), .f1 = witgate.text(@tagName(outcome)) };
        var labels: wg.wg_list_tuple2_string_string_t = .{ .ptr = &label, .len = 1 };
        if (!wg.wg_metrics_define(wg.WG_METRICS_KIND_COUNTER, &counter, &labels, metric, err)) return false;
    }
    witgate.plan(wg.wg_plan_request_reads, &.{ "x-signature", "x-timestamp", "x-delivery" });
    wg.wg_plan_request_body(wg.WG_TYPES_BODY_MODE_BUFFER, body_bytes);
    witgate.plan(wg.wg_plan_writes, &.{"x-webhook"});
    return true;
}

fn refuse(reply: *wg.wg_types_reply_t, status: u16, detail: []const u8, outcome: Outcome) void {
    var line = witgate.print("refused: {s}", .{detail});
    defer wg.wg_string_free(&line);
    wg.wg_log_write(wg.WG_LOG_LEVEL_INFO, &line);
    wg.wg_metrics_add(counted[@intFromEnum(outcome)], 1);
    witgate.problem(reply, status, "The webhook was refused", detail);
}

fn isId(value: []const u8) bool {
    for (value) |letter| if (!std.ascii.isAlphanumeric(letter) and letter != '-' and letter != '_') return false;
    return value.len > 0 and value.len <= 64;
}

/// The bytes of `sha256=HEX`.
fn signatureOf(value: []const u8) ?[32]u8 {
    if (!std.mem.startsWith(u8, value, prefix) or value.len != prefix.len + 64) return null;
    var digest: [32]u8 = undefined;
    _ = std.fmt.hexToBytes(&digest, value[prefix.len..]) catch return null;
    return digest;
}

fn secondsOf(value: []const u8) ?i64 {
    for (value) |letter| if (!std.ascii.isDigit(letter)) return null;
    return if (value.len > 12) null else std.fmt.parseInt(i64, value, 10) catch null;
}

/// What is wrong with the headers, or null after noting what the body hook needs.
fn check(values: *const wg.wg_values_t, verdict: witgate.Verdict) ?[]const u8 {
    const signature = signatureOf(witgate.value(values, 0) orelse "") orelse return "x-signature is missing or malformed";
    const timestamp = witgate.value(values, 1) orelse "";
    const seconds = secondsOf(timestamp) orelse return "x-timestamp is missing or malformed";
    const delivery = witgate.value(values, 2) orelse "";
    if (!isId(delivery)) return "x-delivery is missing or malformed";
    const now: i64 = @intCast(wg.wg_env_unix_millis() / 1000);
    if (@abs(seconds - now) > config.window) return "x-timestamp is too far from now";
    var note = witgate.print("{s}{s}\n{s}", .{ &signature, timestamp, delivery });
    defer wg.wg_string_free(&note);
    verdict.note(witgate.view(note));
    return null;
}

export fn exports_wg_on_request(values: *wg.wg_values_t, ret: *wg.wg_verdict_t, err: *wg.wg_string_t) bool {
    defer wg.wg_values_free(values);
    _ = err;
    const verdict = witgate.Verdict.init(ret);
    if (check(values, verdict)) |wrong| refuse(verdict.respond(), 401, wrong, .refused);
    return true;
}

export fn exports_wg_on_request_body(
    body: *wg.wg_list_u8_t,
    noted: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_list_u8_free(body);
    defer wg.wg_list_u8_free(noted);
    ret.* = std.mem.zeroes(wg.wg_body_verdict_t);
    const note = witgate.view(noted.*);
    const end = std.mem.indexOfScalarPos(u8, note, 32, '\n') orelse return witgate.fail(err, witgate.owned("no note"));
    const message = witgate.print("{s}.{s}", .{ note[32..end], witgate.view(body.*) });
    defer witgate.allocator.free(witgate.view(message));

    var secret = witgate.text(config.secret);
    var data = witgate.bytes(witgate.view(message));
    var given = witgate.bytes(note[0..32]);
    var delivery = witgate.text(note[end + 1 ..]);
    var seen = witgate.bytes("1");
    var expected: wg.wg_list_u8_t = undefined;
    if (!wg.wg_crypto_hmac(wg.WG_CRYPTO_DIGEST_SHA256, &secret, &data, &expected, err)) return false;
    defer wg.wg_list_u8_free(&expected);
    const kept: u32 = @intCast(2_000 * config.window);
    ret.tag = wg.WG_TYPES_BODY_VERDICT_RESPOND;
    if (!wg.wg_crypto_equal(&expected, &given)) {
        refuse(&ret.val.respond, 401, "the signature is not that of the body", .refused);
    } else if (!wg.wg_shared_state_method_bucket_compare_and_set(deliveries, &delivery, null, &seen, kept)) {
        refuse(&ret.val.respond, 409, "this delivery was seen before", .replayed);
    } else {
        wg.wg_metrics_add(counted[@intFromEnum(Outcome.accepted)], 1);
        var amended: wg.wg_verdict_t = undefined;
        witgate.Verdict.init(&amended).note(verified);
        ret.tag = wg.WG_TYPES_BODY_VERDICT_AMEND;
        ret.val.amend = amended.val.amend;
    }
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
    _ = err;
    const verdict = witgate.Verdict.init(ret);
    if (std.mem.eql(u8, witgate.view(note.*), verified)) verdict.set("x-webhook", verified);
    return true;
}

export fn exports_wg_on_response_body(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    _ = err;
    ret.* = std.mem.zeroes(wg.wg_body_verdict_t);
    wg.wg_list_u8_free(body);
    wg.wg_list_u8_free(note);
    return true;
}
