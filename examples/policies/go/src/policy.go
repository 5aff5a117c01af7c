// Package policy lets only signed webhooks through: an HMAC over time and body, no older than a window, and each
// delivery once.
package policy

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"witgate/crypto"
	"witgate/env"
	"witgate/log"
	"witgate/metrics"
	"witgate/plan"
	"witgate/shared_state"
	"witgate/types"
	"witgate/verdict"
)

// What each header must look like. A header that came twice has a newline in it, and so fits none.
var (
	names  = []string{"x-signature", "x-timestamp", "x-delivery"}
	shapes = []*regexp.Regexp{
		regexp.MustCompile(`^sha256=[0-9a-f]{64}$`), regexp.MustCompile(`^[0-9]{1,12}$`), regexp.MustCompile(`^[^\n]+$`),
	}
)

var (
	config struct {
		Secret string
		Window int64
	}
	deliveries *shared_state.Bucket
	counters   = map[string]uint32{}
)

// Checked before Configure, and shown by editors.
func ConfigSchema() string {
	return `{
		"type": "object",
		"properties": {
			"secret": { "type": "string", "description": "The name of the secret that the sender signs with." },
			"window": {
				"type": "integer", "minimum": 1, "maximum": 86400, "default": 300,
				"description": "How many seconds a timestamp may be away from the gateway's clock."
			}
		},
		"required": ["secret"],
		"additionalProperties": false
	}`
}

func Configure(text string) verdict.Done {
	config.Window = 300
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return verdict.Failed(err.Error())
	}
	plan.RequestReads(names)
	plan.RequestBody(types.BodyMode_Buffer, 65536)
	plan.Writes([]string{"x-webhook"})
	opened := shared_state.BucketOpen("deliveries")
	if opened.IsErr() {
		return verdict.Failed(opened.Err())
	}
	deliveries = opened.Ok()
	for _, outcome := range []string{"accepted", "refused", "replayed"} {
		labels := []wit.Tuple2[string, string]{{F0: "outcome", F1: outcome}}
		defined := metrics.Define(metrics.Kind_Counter, "webhook_signatures_total", labels)
		if defined.IsErr() {
			return verdict.Failed(defined.Err())
		}
		counters[outcome] = defined.Ok()
	}
	return verdict.Ok()
}

// What needs no body is checked before there is one.
func OnRequest(values []verdict.Value) verdict.Result {
	for at, name := range names {
		if !shapes[at].MatchString(values[at].SomeOr("")) {
			return verdict.Respond(refusal(401, name+" is missing or malformed", "refused"))
		}
	}
	signature, timestamp, delivery := values[0].Some(), values[1].Some(), values[2].Some()
	seconds, _ := strconv.ParseInt(timestamp, 10, 64) // twelve digits fit
	if away := int64(env.UnixMillis()) - seconds*1000; max(away, -away) > config.Window*1000 {
		return verdict.Respond(refusal(401, "x-timestamp is outside the window", "refused"))
	}
	note := strings.Join([]string{timestamp, delivery, strings.TrimPrefix(signature, "sha256=")}, "\n")
	return verdict.Amend(verdict.Note([]byte(note)))
}

func OnRequestBody(body, note []byte) verdict.BodyResult {
	parts := strings.Split(string(note), "\n")
	timestamp, delivery, signature := parts[0], parts[1], parts[2]
	tag := crypto.Hmac(crypto.Digest_Sha256, config.Secret, append([]byte(timestamp+"."), body...))
	if tag.IsErr() {
		return verdict.FailBody(tag.Err())
	}
	if !crypto.Equal([]byte(hex.EncodeToString(tag.Ok())), []byte(signature)) {
		return verdict.RespondBody(refusal(401, "x-signature does not fit the body", "refused"))
	}
	// Kept for as long as the timestamp could still pass: it may come from one window ahead.
	if !deliveries.CompareAndSet(delivery, wit.None[[]byte](), []byte("1"), uint32(2*config.Window*1000)) {
		return verdict.RespondBody(refusal(409, "the delivery came before", "replayed"))
	}
	metrics.Add(counters["accepted"], 1)
	return verdict.AmendBody(verdict.Note([]byte("verified")))
}

func OnResponse(_ []verdict.Value, note []byte) verdict.Result {
	if string(note) == "verified" {
		return verdict.Amend(verdict.Set("x-webhook", "verified"))
	}
	return verdict.Proceed()
}

func OnResponseBody(_, _ []byte) verdict.BodyResult { return verdict.ProceedBody() }

func refusal(status uint16, detail, outcome string) types.Reply {
	log.Write(log.Level_Info, "refused: "+detail)
	metrics.Add(counters[outcome], 1)
	return verdict.Problem(status, "The webhook was refused", detail)
}
