// Package verdict makes what hooks return. A policy can do without it: everything here is a line or two over the
// generated packages witgate/types and go.bytecodealliance.org/pkg/wit/types.
package verdict

import (
	"encoding/json"

	types "go.bytecodealliance.org/pkg/wit/types"
	wit "witgate/types"
)

// What hooks return: a verdict, or the text of the policy's own failure.
type (
	Result     = types.Result[wit.Verdict, string]
	BodyResult = types.Result[wit.BodyVerdict, string]
	// Done is what configure and the log hooks return.
	Done = types.Result[types.Unit, string]
	// Value is one of those that a hook reads; none where the message has no such thing.
	Value = types.Option[string]
)

// Ok is what configure returns when all is well, Failed when the configuration makes no sense.
func Ok() Done                   { return types.Ok[types.Unit, string](types.Unit{}) }
func Failed(why string) Done     { return types.Err[types.Unit](why) }
func Proceed() Result            { return types.Ok[wit.Verdict, string](wit.MakeVerdictProceed()) }
func Respond(r wit.Reply) Result { return types.Ok[wit.Verdict, string](wit.MakeVerdictRespond(r)) }

// Amend goes on with these edits.
func Amend(edits ...wit.Edit) Result { return types.Ok[wit.Verdict, string](wit.MakeVerdictAmend(edits)) }

// Fail is the policy's own failure (503), which is logged; to refuse a request is to respond.
func Fail(why string) Result { return types.Err[wit.Verdict](why) }

// The same of bodies.
func ProceedBody() BodyResult { return types.Ok[wit.BodyVerdict, string](wit.MakeBodyVerdictProceed()) }
func RespondBody(r wit.Reply) BodyResult {
	return types.Ok[wit.BodyVerdict, string](wit.MakeBodyVerdictRespond(r))
}
func AmendBody(edits ...wit.Edit) BodyResult {
	return types.Ok[wit.BodyVerdict, string](wit.MakeBodyVerdictAmend(edits))
}
func ReplaceBody(body []byte, edits ...wit.Edit) BodyResult {
	pair := types.Tuple2[[]byte, []wit.Edit]{F0: body, F1: edits}
	return types.Ok[wit.BodyVerdict, string](wit.MakeBodyVerdictReplace(pair))
}
func FailBody(why string) BodyResult { return types.Err[wit.BodyVerdict](why) }

// Edits of the message in hand.
func Set(name, value string) wit.Edit    { return wit.MakeEditSet(Header(name, value)) }
func Append(name, value string) wit.Edit { return wit.MakeEditAppend(Header(name, value)) }
func Remove(name string) wit.Edit        { return wit.MakeEditRemove(name) }
func Note(bytes []byte) wit.Edit         { return wit.MakeEditNote(bytes) }

// Header is a field of a reply or a fetch.
func Header(name, value string) types.Tuple2[string, string] {
	return types.Tuple2[string, string]{F0: name, F1: value}
}

// Problem is a refusal as a problem document (RFC 9457).
func Problem(status uint16, title, detail string) wit.Reply {
	body, _ := json.Marshal(map[string]any{"title": title, "status": status, "detail": detail})
	headers := []types.Tuple2[string, string]{Header("content-type", "application/problem+json")}
	return wit.Reply{Status: status, Headers: headers, Body: body}
}
