//! Lets only requests with a certain header through, and tells the upstream who sent them.
const std = @import("std");
const witgate = @import("witgate");
const wg = witgate.wg;

/// What the upstream learns; whatever a client sends in it is overwritten.
const address = "x-client-address";

const Config = struct { header: []const u8 };

/// Checked before `configure`, and shown by editors.
export fn exports_wg_config_schema(ret: *wg.wg_string_t) void {
    ret.* = witgate.owned(
        \\{
        \\  "type": "object",
        \\  "properties": { "header": { "type": "string", "description": "The header that a request must have." } },
        \\  "required": ["header"],
        \\  "additionalProperties": false
        \\}
    );
}

/// What is neither read nor written here never reaches the policy, nor leaves it.
export fn exports_wg_configure(text: *wg.wg_string_t, err: *wg.wg_string_t) bool {
    defer wg.wg_string_free(text);
    const config = std.json.parseFromSlice(Config, witgate.allocator, witgate.view(text.*), .{}) catch |why|
        return witgate.fail(err, witgate.print("{s}", .{@errorName(why)}));
    defer config.deinit();
    const header = config.value.header;
    for (header) |letter| {
        if (!std.ascii.isAlphanumeric(letter) and letter != '-' and letter != '_')
            return witgate.fail(err, witgate.print("header: `{s}` is no header name", .{header}));
    }
    witgate.plan(wg.wg_plan_request_reads, &.{ header, "client:ip" });
    witgate.plan(wg.wg_plan_writes, &.{address});
    return true;
}

/// False is the policy's own failure (503); to refuse a request is to respond.
export fn exports_wg_on_request(values: *wg.wg_values_t, ret: *wg.wg_verdict_t, err: *wg.wg_string_t) bool {
    defer wg.wg_values_free(values);
    _ = err;
    const verdict = witgate.Verdict.init(ret);
    const sent = witgate.value(values, 0) orelse "";
    if (sent.len == 0) {
        witgate.problem(verdict.respond(), 400, "A header is missing", "a header must be sent");
    } else {
        verdict.set(address, witgate.value(values, 1) orelse "");
    }
    return true;
}
