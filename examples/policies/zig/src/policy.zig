//! Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once.
const std = @import("std");
const witgate = @import("witgate");
const wg = witgate.wg;

const names = [_][]const u8{ "x-signature", "x-timestamp", "x-delivery" };
const scheme = "sha256=";
const hex_len = 64;

const Config = struct { secret: []const u8, window: u32 = 300 };
const Outcome = enum { accepted, refused, replayed };

var config: Config = undefined;
var deliveries: wg.wg_shared_state_own_bucket_t = undefined;
var counters = std.EnumArray(Outcome, u32).initFill(0);

/// Checked before `configure`, and shown by editors.
export fn exports_wg_config_schema(ret: *wg.wg_string_t) void {
    ret.* = witgate.owned(
        \\{
        \\  "type": "object",
        \\  "properties": {
        \\    "secret": { "type": "string", "description": "The name of the secret that the sender signs with." },
        \\    "window": {
        \\      "type": "integer", "minimum": 1, "maximum": 86400, "default": 300,
        \\      "description": "How many seconds a timestamp may be away from the gateway's clock."
        \\    }
        \\  },
        \\  "required": ["secret"],
        \\  "additionalProperties": false
        \\}
    );
}

export fn exports_wg_configure(text: *wg.wg_string_t, err: *wg.wg_string_t) bool {
    // Neither freed: the configuration points into its text, and is needed as long as the instance.
    config = std.json.parseFromSliceLeaky(Config, witgate.allocator, witgate.view(text.*), .{}) catch |why|
        return witgate.fail(err, witgate.print("{s}", .{@errorName(why)}));
    witgate.plan(wg.wg_plan_request_reads, &names);
    wg.wg_plan_request_body(wg.WG_TYPES_BODY_MODE_BUFFER, 65536);
    witgate.plan(wg.wg_plan_writes, &.{"x-webhook"});
    var counter = witgate.text("webhook_signatures_total");
    for (std.enums.values(Outcome)) |outcome| {
        var label: wg.wg_tuple2_string_string_t = .{
            .f0 = witgate.text("outcome"),
            .f1 = witgate.text(@tagName(outcome)),
        };
        var labels: wg.wg_list_tuple2_string_string_t = .{ .ptr = &label, .len = 1 };
        if (!wg.wg_metrics_define(wg.WG_METRICS_KIND_COUNTER, &counter, &labels, counters.getPtr(outcome), err))
            return false;
    }
    var bucket = witgate.text("deliveries");
    return wg.wg_shared_state_static_bucket_open(&bucket, &deliveries, err);
}

/// What needs no body is checked before there is one.
export fn exports_wg_on_request(values: *wg.wg_values_t, ret: *wg.wg_verdict_t, err: *wg.wg_string_t) bool {
    defer wg.wg_values_free(values);
    _ = err;
    const verdict = witgate.Verdict.init(ret);
    var found: [names.len][]const u8 = undefined;
    inline for (names, .{ isSignature, isTimestamp, isDelivery }, 0..) |name, fits, at| {
        found[at] = witgate.value(values, at) orelse "";
        if (!fits(found[at])) {
            refuse(verdict.respond(), 401, name ++ " is missing or malformed", .refused);
            return true;
        }
    }
    const signature, const timestamp, const delivery = found;
    const seconds = std.fmt.parseInt(u64, timestamp, 10) catch unreachable; // twelve digits fit
    const now = wg.wg_env_unix_millis();
    if (@max(now, seconds * 1000) - @min(now, seconds * 1000) > windowMillis()) {
        refuse(verdict.respond(), 401, "x-timestamp is outside the window", .refused);
        return true;
    }
    const note = witgate.print("{s}\n{s}\n{s}", .{ timestamp, delivery, signature[scheme.len..] });
    defer witgate.allocator.free(witgate.view(note));
    verdict.note(witgate.view(note));
    return true;
}

/// False, from the HMAC too, is the policy's own failure (503).
export fn exports_wg_on_request_body(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_list_u8_free(body);
    defer wg.wg_list_u8_free(note);
    var parts = std.mem.splitScalar(u8, witgate.view(note.*), '\n');
    const timestamp = parts.first();
    var delivery = witgate.text(parts.next() orelse "");
    var sent = witgate.bytes(parts.rest());

    const signed = witgate.print("{s}.{s}", .{ timestamp, witgate.view(body.*) });
    defer witgate.allocator.free(witgate.view(signed));
    var data = witgate.bytes(witgate.view(signed));
    var secret = witgate.text(config.secret);
    var tag: wg.wg_list_u8_t = undefined;
    if (!wg.wg_crypto_hmac(wg.WG_CRYPTO_DIGEST_SHA256, &secret, &data, &tag, err)) return false;
    defer wg.wg_list_u8_free(&tag);
    const hex = std.fmt.bytesToHex(witgate.view(tag)[0 .. hex_len / 2].*, .lower);
    var expected = witgate.bytes(&hex);

    ret.* = std.mem.zeroes(wg.wg_body_verdict_t);
    ret.tag = wg.WG_TYPES_BODY_VERDICT_RESPOND;
    if (!wg.wg_crypto_equal(&expected, &sent)) {
        refuse(&ret.val.respond, 401, "x-signature does not fit the body", .refused);
        return true;
    }
    // Kept for as long as the timestamp could still pass: it may come from one window ahead.
    const bucket = wg.wg_shared_state_borrow_bucket(deliveries);
    var seen = witgate.bytes("1");
    if (!wg.wg_shared_state_method_bucket_compare_and_set(bucket, &delivery, null, &seen, 2 * windowMillis())) {
        refuse(&ret.val.respond, 409, "the delivery came before", .replayed);
        return true;
    }
    wg.wg_metrics_add(counters.get(.accepted), 1);
    var verified: wg.wg_verdict_t = undefined;
    witgate.Verdict.init(&verified).note("verified");
    ret.tag = wg.WG_TYPES_BODY_VERDICT_AMEND;
    ret.val.amend = verified.val.amend;
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
    if (std.mem.eql(u8, witgate.view(note.*), "verified")) verdict.set("x-webhook", "verified");
    return true;
}

export fn exports_wg_on_response_body(
    body: *wg.wg_list_u8_t,
    note: *wg.wg_list_u8_t,
    ret: *wg.wg_body_verdict_t,
    err: *wg.wg_string_t,
) bool {
    defer wg.wg_list_u8_free(body);
    defer wg.wg_list_u8_free(note);
    _ = err;
    ret.* = std.mem.zeroes(wg.wg_body_verdict_t); // proceed
    return true;
}

/// Logs and counts, too.
fn refuse(reply: *wg.wg_types_reply_t, status: u16, comptime detail: []const u8, outcome: Outcome) void {
    var line = witgate.text("refused: " ++ detail);
    wg.wg_log_write(wg.WG_LOG_LEVEL_INFO, &line);
    wg.wg_metrics_add(counters.get(outcome), 1);
    witgate.problem(reply, status, "The webhook was refused", detail);
}

fn windowMillis() u32 {
    return config.window * 1000;
}

fn isSignature(value: []const u8) bool {
    return value.len == scheme.len + hex_len and std.mem.startsWith(u8, value, scheme) and
        std.mem.indexOfNone(u8, value[scheme.len..], "0123456789abcdef") == null;
}

fn isTimestamp(value: []const u8) bool {
    return value.len > 0 and value.len <= 12 and std.mem.indexOfNone(u8, value, "0123456789") == null;
}

/// A header that came twice has a newline in it.
fn isDelivery(value: []const u8) bool {
    return value.len > 0 and std.mem.indexOfScalar(u8, value, '\n') == null;
}
