// Package policy lets a webhook through if its signature is right, its time is now and its delivery is new.
//
// The sender signs TIMESTAMP.BODY with a secret that both know (HMAC-SHA256), and names each delivery.
package policy

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	option "go.bytecodealliance.org/pkg/wit/types"
	"witgate/crypto"
	"witgate/env"
	"witgate/log"
	"witgate/metrics"
	"witgate/plan"
	"witgate/shared_state"
	"witgate/types"
	"witgate/verdict"
)

const bodyBytes = 65_536

var (
	settings   = struct{ Secret string; Window int64 }{Window: 300}
	deliveries *shared_state.Bucket
	counted    = map[string]uint32{}

	isSignature = regexp.MustCompile(`^sha256=[0-9a-f]{64}$`).MatchString
	isTimestamp = regexp.MustCompile(`^[0-9]{1,12}$`).MatchString
	isDelivery  = regexp.MustCompile(`^[\w-]{1,64}$`).MatchString
)

func ConfigSchema() string {
	return `{
		"type": "object",
		"properties": {
			"secret": { "type": "string", "description": "The name of the secret." },
			"window": { "type": "integer", "minimum": 1, "maximum": 86400, "description": "Seconds." }
		},
		"required": ["secret"],
		"additionalProperties": false
	}`
}

func Configure(config string) verdict.Done {
	if err := json.Unmarshal([]byte(config), &settings); err != nil {
		return verdict.Failed(err.Error())
	}
	opened := shared_state.BucketOpen("deliveries")
	if opened.IsErr() {
		return verdict.Failed(opened.Err())
	}
	deliveries = opened.Ok()
	for _, outcome := range []string{"accepted", "refused", "replayed"} {
		labels := []option.Tuple2[string, string]{verdict.Header("outcome", outcome)}
		defined := metrics.Define(metrics.Kind_Counter, "webhook_signatures_total", labels)
		if defined.IsErr() {
			return verdict.Failed(defined.Err())
		}
		counted[outcome] = defined.Ok()
	}
	plan.RequestReads([]string{"x-signature", "x-timestamp", "x-delivery"})
	plan.RequestBody(types.BodyMode_Buffer, bodyBytes)
	plan.Writes([]string{"x-webhook"})
	return verdict.Ok()
}

func OnRequest(values []verdict.Value) verdict.Result {
	signature, timestamp, delivery := values[0].SomeOr(""), values[1].SomeOr(""), values[2].SomeOr("")
	switch {
	case !isSignature(signature):
		return verdict.Respond(refusal(401, "x-signature is missing or malformed", "refused"))
	case !isTimestamp(timestamp):
		return verdict.Respond(refusal(401, "x-timestamp is missing or malformed", "refused"))
	case !isDelivery(delivery):
		return verdict.Respond(refusal(401, "x-delivery is missing or malformed", "refused"))
	}
	said, _ := strconv.ParseInt(timestamp, 10, 64)
	if seconds := said - int64(env.UnixMillis()/1000); seconds > settings.Window || -seconds > settings.Window {
		return verdict.Respond(refusal(401, "x-timestamp is too far from now", "refused"))
	}
	return verdict.Amend(verdict.Note([]byte(timestamp + "\n" + delivery + "\n" + signature[len("sha256="):])))
}

func OnRequestBody(body, note []byte) verdict.BodyResult {
	noted := strings.Split(string(note), "\n")
	timestamp, delivery := noted[0], noted[1]
	given, _ := hex.DecodeString(noted[2])
	expected := crypto.Hmac(crypto.Digest_Sha256, settings.Secret, append([]byte(timestamp+"."), body...))
	if expected.IsErr() {
		return verdict.FailBody(expected.Err())
	}
	if !crypto.Equal(expected.Ok(), given) {
		return verdict.RespondBody(refusal(401, "the signature is not that of the body", "refused"))
	}
	if !deliveries.CompareAndSet(delivery, option.None[[]byte](), []byte("1"), uint32(2_000*settings.Window)) {
		return verdict.RespondBody(refusal(409, "this delivery was seen before", "replayed"))
	}
	metrics.Add(counted["accepted"], 1)
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
	metrics.Add(counted[outcome], 1)
	return verdict.Problem(status, "The webhook was refused", detail)
}
