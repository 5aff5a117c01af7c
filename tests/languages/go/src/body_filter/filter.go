// Package body_filter is the suite's filter of bodies; half of it is generated.
package body_filter

import (
	"fmt"
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"witgate/body_stream"
)

// Scenario is what Configure was told.
var Scenario string

// BodyFilter is one message's; handle and pinner are the generated half's.
type BodyFilter struct {
	which  string
	chunks int
	handle int32
	pinner runtime.Pinner
}

func MakeBodyFilter(which uint8, _ []byte) *BodyFilter {
	name := map[uint8]string{body_stream.Direction_Request: "request", body_stream.Direction_Response: "response"}
	return &BodyFilter{which: name[which]}
}

func (filter *BodyFilter) Chunk(data []byte, last bool) wit.Result[body_stream.ChunkVerdict, string] {
	filter.chunks++
	verdict := body_stream.MakeChunkVerdictProceed()
	switch {
	case Scenario == "stream-replace":
		text := fmt.Sprintf("%s %d %s %t;", filter.which, filter.chunks, Upper(data), last)
		verdict = body_stream.MakeChunkVerdictReplace([]byte(text))
	case Scenario == "stream-swallow" && !last:
		verdict = body_stream.MakeChunkVerdictReplace(nil)
	case Scenario == "stream-abort":
		verdict = body_stream.MakeChunkVerdictAbort("as told")
	case Scenario == "stream-error":
		return wit.Err[body_stream.ChunkVerdict]("as told")
	}
	return wit.Ok[body_stream.ChunkVerdict, string](verdict)
}

func (filter *BodyFilter) OnDrop() {}

// Upper changes letters of ASCII only.
func Upper(text []byte) []byte {
	upper := make([]byte, len(text))
	for at, letter := range text {
		if 'a' <= letter && letter <= 'z' {
			letter -= 'a' - 'A'
		}
		upper[at] = letter
	}
	return upper
}
