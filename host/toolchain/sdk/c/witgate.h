// What makes the generated wg.h pleasant in C. Use it or not; a policy needs wg.h only.
//
// What imports take is borrowed and stays yours. What a hook returns is freed by the bindings after the call, so it
// comes from malloc: these functions copy. What a hook receives is yours to free, on every path.
#ifndef WITGATE_H
#define WITGATE_H
#include "wg.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A borrowed string for imports, from a literal or any string that ends in a NUL.
#define WG(text) ((wg_string_t){.ptr = (uint8_t *)(text), .len = strlen(text)})
// A borrowed list of them: wg_plan_writes(WG_LIST(WG("x-a"), WG("x-b"))).
#define WG_LIST(...)                                                                                                  \
  (&(wg_list_string_t){.ptr = (wg_string_t[]){__VA_ARGS__},                                                          \
                       .len = sizeof((wg_string_t[]){__VA_ARGS__}) / sizeof(wg_string_t)})
// For printf: "%.*s", WG_TEXT(string).
#define WG_TEXT(string) (int)(string).len, (const char *)(string).ptr

static inline void *wg_alloc(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) abort();
  return memory;
}

// A copy that a hook may return. The bindings free what is not empty only, so nothing is allocated for what is.
static inline wg_string_t wg_copy(const void *bytes, size_t len) {
  if (!len) return (wg_string_t){0};
  return (wg_string_t){.ptr = (uint8_t *)memcpy(wg_alloc(len), bytes, len), .len = len};
}

static inline wg_string_t wg_format(const char *format, ...) {
  va_list words, again;
  va_start(words, format);
  va_copy(again, words);
  int len = vsnprintf(NULL, 0, format, words);
  if (len < 0) abort();
  if (!len) return va_end(words), va_end(again), (wg_string_t){0};
  char *text = (char *)wg_alloc((size_t)len + 1);
  vsnprintf(text, (size_t)len + 1, format, again);
  va_end(words), va_end(again);
  return (wg_string_t){.ptr = (uint8_t *)text, .len = (size_t)len};
}

// Whether two strings are the same bytes. Not for secrets: wg_crypto_equal is.
static inline bool wg_is(wg_string_t a, wg_string_t b) { return a.len == b.len && !memcmp(a.ptr, b.ptr, a.len); }

// The next edit of a verdict, which begins as `*ret = (wg_verdict_t){0}`: proceed.
static inline wg_types_edit_t *wg_edit(wg_verdict_t *verdict, int tag) {
  wg_types_list_edit_t *edits = &verdict->val.amend;
  if (verdict->tag != WG_TYPES_VERDICT_AMEND) *verdict = (wg_verdict_t){.tag = WG_TYPES_VERDICT_AMEND};
  edits->ptr = (wg_types_edit_t *)realloc(edits->ptr, (edits->len + 1) * sizeof *edits->ptr);
  if (!edits->ptr) abort();
  edits->ptr[edits->len].tag = (uint8_t)tag;
  return &edits->ptr[edits->len++];
}

static inline void wg_set(wg_verdict_t *verdict, const char *name, wg_string_t owned) {
  wg_types_edit_t *edit = wg_edit(verdict, WG_TYPES_EDIT_SET);
  edit->val.set.f0 = wg_copy(name, strlen(name)), edit->val.set.f1 = owned;
}

static inline void wg_append(wg_verdict_t *verdict, const char *name, wg_string_t owned) {
  wg_set(verdict, name, owned);
  verdict->val.amend.ptr[verdict->val.amend.len - 1].tag = WG_TYPES_EDIT_APPEND;
}

static inline void wg_note(wg_verdict_t *verdict, const void *bytes, size_t len) {
  wg_string_t copy = wg_copy(bytes, len);
  wg_edit(verdict, WG_TYPES_EDIT_NOTE)->val.note = (wg_list_u8_t){.ptr = copy.ptr, .len = copy.len};
}

// A refusal as a problem document (RFC 9457). `detail` must need no escape in JSON.
static inline void wg_problem(wg_types_reply_t *reply, uint16_t status, const char *title, const char *detail) {
  wg_string_t body = wg_format("{\"title\":\"%s\",\"status\":%u,\"detail\":\"%s\"}", title, status, detail);
  reply->status = status, reply->body = (wg_list_u8_t){.ptr = body.ptr, .len = body.len};
  reply->headers.ptr = (wg_tuple2_string_string_t *)wg_alloc(sizeof *reply->headers.ptr), reply->headers.len = 1;
  reply->headers.ptr->f0 = wg_format("content-type");
  reply->headers.ptr->f1 = wg_format("application/problem+json");
}

// The value of `key` in a JSON object, or {0}: of a string what is between its quotes, of anything else its text. For
// configurations, whose schema has been checked and which the gateway writes without white space; escapes stay.
static inline wg_string_t wg_member(wg_string_t json, const char *key) {
  size_t depth = 0, value = 0; // where the value begins, once it is found
  for (size_t at = 0, start; at < json.len; at++) {
    start = at;
    if (json.ptr[at] == '"')
      for (at++; at < json.len && json.ptr[at] != '"'; at++) at += json.ptr[at] == '\\';
    bool is_open = json.ptr[start] == '{' || json.ptr[start] == '[', ends = strchr("]},", json.ptr[start]) != NULL;
    if (value && depth == 1 && ends) {
      bool is_text = json.ptr[value] == '"';
      return (wg_string_t){.ptr = json.ptr + value + is_text, .len = start - value - 2 * is_text};
    }
    if (depth == 1 && json.ptr[start] == '"' && at + 1 < json.len && json.ptr[at + 1] == ':' &&
        wg_is((wg_string_t){json.ptr + start + 1, at - start - 1}, WG(key)))
      value = ++at + 1;
    depth += is_open, depth -= ends && json.ptr[start] != ',';
  }
  return (wg_string_t){0};
}

// The hook's own failure: `return wg_fail(err, wg_format("no %s", what))`.
static inline bool wg_fail(wg_string_t *err, wg_string_t owned) { return *err = owned, false; }
#endif
