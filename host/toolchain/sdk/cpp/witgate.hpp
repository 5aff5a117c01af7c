// Makes the generated wg.h pleasant in C++20. What hooks return is freed by the bindings, so it is copied to where C
// allocates; what hooks receive is freed by `Values` and `Bytes`. There are no exceptions: a policy says what fails.
#pragma once
extern "C" {
#include "witgate.h"
}
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace witgate {

inline std::string_view view(wg_string_t text) { return {reinterpret_cast<const char *>(text.ptr), text.len}; }
inline std::string_view view(wg_list_u8_t bytes) { return {reinterpret_cast<const char *>(bytes.ptr), bytes.len}; }
// Borrowed, for imports.
inline wg_string_t text(std::string_view from) { return {(uint8_t *)from.data(), from.size()}; }
inline wg_list_u8_t bytes(std::string_view from) { return {(uint8_t *)from.data(), from.size()}; }
// Copied, for what hooks return.
inline wg_string_t owned(std::string_view from) { return wg_copy(from.data(), from.size()); }

// Names for the plan: plan(wg_plan_writes, {"x-a", "x-b"}).
inline void plan(void (*say)(wg_list_string_t *), std::initializer_list<std::string_view> names) {
  std::vector<wg_string_t> list;
  for (auto name : names) list.push_back(text(name));
  wg_list_string_t borrowed{list.data(), list.size()};
  say(&borrowed);
}

// What a header hook receives; freed at the end of the scope.
class Values {
  wg_values_t *values;

public:
  explicit Values(wg_values_t *received) : values(received) {}
  ~Values() { wg_values_free(values); }
  Values(const Values &) = delete;
  std::optional<std::string_view> operator[](size_t at) const {
    auto &value = values->ptr[at];
    return value.is_some ? std::optional(view(value.val)) : std::nullopt;
  }
  size_t size() const { return values->len; }
};

// A body or a note that a hook receives; freed at the end of the scope.
struct Bytes {
  wg_list_u8_t *received;
  ~Bytes() { wg_list_u8_free(received); }
  operator std::string_view() const { return view(*received); }
};

// The verdict of a header hook: proceeds unless something else is said.
class Verdict {
  wg_verdict_t *made;

public:
  explicit Verdict(wg_verdict_t *to) : made(to) { *to = {}; }
  Verdict &set(const char *name, std::string_view value) { return wg_set(made, name, owned(value)), *this; }
  Verdict &append(const char *name, std::string_view value) { return wg_append(made, name, owned(value)), *this; }
  Verdict &remove(std::string_view name) { return wg_edit(made, WG_TYPES_EDIT_REMOVE)->val.remove = owned(name), *this; }
  Verdict &note(std::string_view bytes) { return wg_note(made, bytes.data(), bytes.size()), *this; }
  wg_types_reply_t &respond() { return made->tag = WG_TYPES_VERDICT_RESPOND, made->val.respond; }
  void problem(uint16_t status, const char *title, const char *detail) { wg_problem(&respond(), status, title, detail); }
};

} // namespace witgate
