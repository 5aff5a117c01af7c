//! Makes the generated wg.zig pleasant. What hooks return is freed by the bindings, so it is copied to where C
//! allocates; what imports take is borrowed.
const std = @import("std");
pub const wg = @import("wg");

/// Where what hooks return comes from.
pub const allocator = std.heap.c_allocator;

pub fn view(from: anytype) []const u8 {
    return if (from.len == 0) "" else from.ptr[0..from.len];
}

/// A value that a hook reads, or null.
pub fn value(values: [*c]const wg.wg_values_t, at: usize) ?[]const u8 {
    const found = values.*.ptr[at];
    return if (found.is_some) view(found.val) else null;
}

/// Borrowed, for imports.
pub fn text(from: []const u8) wg.wg_string_t {
    return .{ .ptr = start(from), .len = from.len };
}

pub fn bytes(from: []const u8) wg.wg_list_u8_t {
    return .{ .ptr = start(from), .len = from.len };
}

/// Zig's allocators place what is empty at the end of the address space, where nothing may be given to the gateway.
fn start(of: []const u8) [*c]u8 {
    return if (of.len == 0) null else @constCast(of.ptr);
}

/// Copied, for what hooks return.
pub fn owned(from: []const u8) wg.wg_string_t {
    return text(allocator.dupe(u8, from) catch @panic("out of memory"));
}

pub fn print(comptime format: []const u8, arguments: anytype) wg.wg_string_t {
    return text(std.fmt.allocPrint(allocator, format, arguments) catch @panic("out of memory"));
}

/// Names for the plan: `plan(wg.wg_plan_writes, &.{ "x-a", "x-b" })`.
pub fn plan(say: anytype, names: []const []const u8) void {
    var list: [64]wg.wg_string_t = undefined;
    for (names, 0..) |name, at| list[at] = text(name);
    var borrowed: wg.wg_list_string_t = .{ .ptr = &list, .len = names.len };
    say(&borrowed);
}

/// The verdict of a header hook: proceeds unless something else is said.
pub const Verdict = struct {
    made: *wg.wg_verdict_t,

    pub fn init(to: [*c]wg.wg_verdict_t) Verdict {
        to.* = std.mem.zeroes(wg.wg_verdict_t);
        return .{ .made = to };
    }

    pub fn edit(self: Verdict, tag: u8) *wg.wg_types_edit_t {
        const amend = &self.made.val.amend;
        if (self.made.tag != wg.WG_TYPES_VERDICT_AMEND) {
            self.made.tag = wg.WG_TYPES_VERDICT_AMEND;
            amend.* = .{ .ptr = null, .len = 0 };
        }
        const old: []wg.wg_types_edit_t = if (amend.len == 0) &.{} else amend.ptr[0..amend.len];
        const grown = allocator.realloc(old, old.len + 1) catch @panic("out of memory");
        amend.* = .{ .ptr = grown.ptr, .len = grown.len };
        grown[grown.len - 1].tag = tag;
        return &grown[grown.len - 1];
    }

    pub fn set(self: Verdict, name: []const u8, to: []const u8) void {
        self.edit(wg.WG_TYPES_EDIT_SET).val.set = .{ .f0 = owned(name), .f1 = owned(to) };
    }

    pub fn append(self: Verdict, name: []const u8, to: []const u8) void {
        self.edit(wg.WG_TYPES_EDIT_APPEND).val.append = .{ .f0 = owned(name), .f1 = owned(to) };
    }

    pub fn remove(self: Verdict, name: []const u8) void {
        self.edit(wg.WG_TYPES_EDIT_REMOVE).val.remove = owned(name);
    }

    pub fn note(self: Verdict, from: []const u8) void {
        const copy = owned(from);
        self.edit(wg.WG_TYPES_EDIT_NOTE).val.note = .{ .ptr = copy.ptr, .len = copy.len };
    }

    pub fn respond(self: Verdict) *wg.wg_types_reply_t {
        self.made.tag = wg.WG_TYPES_VERDICT_RESPOND;
        return &self.made.val.respond;
    }
};

/// A refusal as a problem document (RFC 9457).
pub fn problem(reply: *wg.wg_types_reply_t, status: u16, title: []const u8, detail: []const u8) void {
    const body = print("{f}", .{std.json.fmt(.{ .title = title, .status = status, .detail = detail }, .{})});
    const headers = allocator.alloc(wg.wg_tuple2_string_string_t, 1) catch @panic("out of memory");
    headers[0] = .{ .f0 = owned("content-type"), .f1 = owned("application/problem+json") };
    reply.* = .{
        .status = status,
        .headers = .{ .ptr = headers.ptr, .len = headers.len },
        .body = .{ .ptr = body.ptr, .len = body.len },
    };
}

/// The hook's own failure.
pub fn fail(err: [*c]wg.wg_string_t, why: wg.wg_string_t) bool {
    err.* = why;
    return false;
}
