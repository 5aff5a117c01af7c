// Package policy is the conformance suite's guest in Go: each scenario of ../../suite.yaml, as ../../rust does it.
package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"
	"witgate/body_filter"
	"witgate/consumers"
	"witgate/crypto"
	"witgate/env"
	"witgate/http_client"
	"witgate/jwt"
	"witgate/log"
	"witgate/message"
	"witgate/metrics"
	"witgate/plan"
	"witgate/rate_limit"
	"witgate/shared_state"
	"witgate/types"
	"witgate/verdict"
)

// Of "password", and made weak so that it is quick.
const hashed = "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA"

// What Configure made for the scenario.
var (
	scenario string
	bucket   *shared_state.Bucket
	limiter  *rate_limit.Limiter
	verifier *jwt.Verifier
	defined  []uint32
	kept     [][]byte
)

func ConfigSchema() string {
	return `{"type":"object","properties":{"do":{"type":"string"}},"required":["do"],"additionalProperties":false}`
}

func Configure(text string) verdict.Done {
	var config struct{ Do string }
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return verdict.Failed(err.Error())
	}
	scenario = config.Do
	body_filter.Scenario = scenario
	reads := []string{"x-a", ":path", "client:ip", "query:q"}
	switch {
	case scenario == "refuse":
		return verdict.Failed("refused as told")
	case scenario == "unknown-read":
		reads = append(reads, "no such:name")
	case scenario == "message":
		reads = append(reads, "headers:*")
	case scenario == "skip":
		plan.OnError(types.Fallback_Skip)
	case scenario == "tick":
		plan.TickMillis(1000)
	case scenario == "open-ungranted" || scenario == "state":
		name := map[string]string{"state": "suite"}[scenario]
		if name == "" {
			name = "other"
		}
		opened := shared_state.BucketOpen(name)
		if opened.IsErr() {
			return verdict.Failed(opened.Err())
		}
		bucket = opened.Ok()
	case scenario == "rate":
		made := rate_limit.LimiterCreate("suite", rate_limit.Quota{Count: 2, PeriodMillis: 60_000})
		if made.IsErr() {
			return verdict.Failed(made.Err())
		}
		limiter = made.Ok()
	case scenario == "jwt":
		made := jwt.VerifierCreate(jwt.Rules{
			Keys:           []jwt.KeySource{jwt.MakeKeySourceSecret("signing")},
			Issuers:        []string{"https://issuer.example"},
			RequiredClaims: []string{"sub"},
		})
		if made.IsErr() {
			return verdict.Failed(made.Err())
		}
		verifier = made.Ok()
	case scenario == "metrics":
		labels := []wit.Tuple2[string, string]{verdict.Header("kind", "suite")}
		for kind, name := range []string{"suite_total", "suite_level", "suite_seconds"} {
			made := metrics.Define(uint8(kind), name, labels)
			if made.IsErr() {
				return verdict.Failed(made.Err())
			}
			defined = append(defined, made.Ok())
		}
	case strings.HasPrefix(scenario, "body-"):
		plan.RequestBody(types.BodyMode_Buffer, 1000)
		plan.ResponseBody(types.BodyMode_Buffer, 1000)
	case strings.HasPrefix(scenario, "stream-"):
		plan.RequestBody(types.BodyMode_Stream, 0)
		plan.ResponseBody(types.BodyMode_Stream, 0)
	}
	plan.RequestReads(reads)
	plan.ResponseReads([]string{":status", "x-b"})
	plan.LogReads([]string{":status", "answered:by"})
	plan.Writes([]string{"x-*"})
	return verdict.Ok()
}

func OnRequest(values []verdict.Value) verdict.Result {
	first := values[0].SomeOr("")
	switch scenario {
	case "edits":
		return verdict.Amend(verdict.Set("x-set", "1"), verdict.Append("x-append", "2"), verdict.Remove("x-remove"),
			verdict.Note([]byte("nä")))
	case "body-amend":
		return verdict.Amend(verdict.Note([]byte("from headers")))
	case "respond":
		return verdict.Respond(teapot(418))
	case "bad-status":
		return verdict.Respond(teapot(99))
	case "error", "skip":
		return verdict.Fail("as told")
	case "trap":
		panic("trapped as told")
	case "spin":
		for {
		}
	case "grow":
		for {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "undeclared":
		return verdict.Amend(verdict.Set("undeclared", "1"))
	case "forbidden-value":
		return verdict.Amend(verdict.Set("x-set", "a\r\nb: c"))
	case "many-edits":
		edits := make([]types.Edit, 1_000)
		for at := range edits {
			edits[at] = verdict.Set("x-set", "1")
		}
		return verdict.Amend(edits...)
	case "echo":
		return result(joined(values))
	case "env":
		return result(environment())
	case "log":
		for level, name := range []string{"trace", "debug", "info", "warn", "error"} {
			log.Write(uint8(level), "at "+name)
		}
		fmt.Print("printed in ")
		fmt.Print("pieces\n")
		return result(strconv.FormatBool(log.MaxLevel() == log.Level_Trace))
	case "metrics":
		metrics.Add(defined[0], 2.5)
		metrics.Add(defined[1], -1)
		metrics.Observe(defined[2], 0.25)
		return result(metrics.Define(metrics.Kind_Counter, "suite_late", nil).Err())
	case "message":
		var all []string
		for _, header := range message.Headers() {
			all = append(all, header.F0+"="+header.F1)
		}
		return result(strings.Join(all, ","))
	case "state":
		return result(state())
	case "late-open":
		return result(shared_state.BucketOpen("suite").Err())
	case "rate":
		var all []string
		for range 3 {
			outcome := limiter.Check("key", 1)
			all = append(all, fmt.Sprintf("%t,%d,%d", outcome.Allowed, outcome.Remaining, outcome.RetryAfterMillis))
		}
		return result(strings.Join(all, "|"))
	case "jwt":
		verified := verifier.Verify(first)
		if verified.IsErr() {
			return result(faults[verified.Err()])
		}
		return result(verified.Ok())
	case "by-key":
		return result(consumer(consumers.IdentifyByKey(first)))
	case "by-name":
		return result(consumer(consumers.IdentifyByName(first)))
	case "crypto":
		return result(cryptography())
	case "fetch":
		return result(fetched(http_client.Fetch(request("backend"))))
	case "fetch-ungranted":
		return result(fetched(http_client.Fetch(request("elsewhere"))))
	case "fetch-all":
		var all []string
		for _, answer := range http_client.FetchAll([]http_client.FetchRequest{request("backend"), request("broken")}) {
			all = append(all, fetched(answer))
		}
		return result(strings.Join(all, "|"))
	}
	return verdict.Proceed()
}

func OnResponse(values []verdict.Value, note []byte) verdict.Result {
	switch scenario {
	case "edits", "echo":
		return verdict.Amend(verdict.Set("x-response", joined(values)+"|"+string(note)))
	case "response-respond":
		return verdict.Respond(teapot(418))
	case "response-error":
		return verdict.Fail("as told")
	}
	return verdict.Proceed()
}

func OnRequestBody(body, note []byte) verdict.BodyResult  { return onBody(body, note) }
func OnResponseBody(body, note []byte) verdict.BodyResult { return onBody(body, note) }

func onBody(body, note []byte) verdict.BodyResult {
	switch scenario {
	case "body-amend":
		return verdict.AmendBody(verdict.Set("x-result", fmt.Sprintf("%d|%s", len(body), note)))
	case "body-replace":
		return verdict.ReplaceBody(body_filter.Upper(body), verdict.Set("x-result", strconv.Itoa(len(body))))
	case "body-respond":
		return verdict.RespondBody(teapot(418))
	case "body-error":
		return verdict.FailBody("as told")
	}
	return verdict.ProceedBody()
}

func OnLog(entries [][]verdict.Value) verdict.Done {
	for _, entry := range entries {
		log.Write(log.Level_Info, "entry "+joined(entry))
	}
	if scenario == "log-error" {
		return verdict.Failed("as told")
	}
	return verdict.Ok()
}

func OnTick() verdict.Done {
	log.Write(log.Level_Info, "tick")
	return verdict.Ok()
}

func environment() string {
	millis, nanos, earlier := env.UnixMillis(), env.UnixNanos(), env.MonotonicNanos()
	isSteady, differ := earlier <= env.MonotonicNanos(), env.RandomU64() != env.RandomU64()
	return fmt.Sprintf("%d|%t|%t|%t|%d", millis, nanos/1_000_000 == millis, isSteady, differ, len(env.RandomBytes(5)))
}

func state() string {
	some := func(text string) wit.Option[[]byte] { return wit.Some([]byte(text)) }
	get := func() string { value := bucket.Get("k"); return string(value.SomeOr([]byte("-"))) }
	steps := []any{
		get(), bucket.Set("k", []byte("v"), 0), get(), bucket.Increment("n", 5, 0), bucket.Increment("n", -7, 60_000),
		bucket.CompareAndSet("k", some("v"), []byte("w"), 0),
		bucket.CompareAndSet("k", wit.None[[]byte](), []byte("x"), 0), get(),
	}
	bucket.Remove("k")
	var all []string
	for _, step := range append(steps, get()) {
		all = append(all, fmt.Sprint(step))
	}
	return strings.Join(all, "|")
}

func cryptography() string {
	hmac := func(secret string) string {
		made := crypto.Hmac(crypto.Digest_Sha256, secret, []byte("abc"))
		if made.IsErr() {
			return made.Err()
		}
		return hex.EncodeToString(made.Ok())
	}
	a, b := []byte("a"), []byte("b")
	return fmt.Sprintf("%x|%d|%d|%s|%s|%t|%t|%t|%t", crypto.Hash(crypto.Digest_Sha256, []byte("abc")),
		len(crypto.Hash(crypto.Digest_Sha384, nil)), len(crypto.Hash(crypto.Digest_Sha512, nil)),
		hmac("signing"), hmac("unknown"), crypto.Equal(a, a), crypto.Equal(a, b),
		crypto.VerifyPassword("password", hashed), crypto.VerifyPassword("passwort", hashed))
}

func request(upstream string) http_client.FetchRequest {
	headers := []wit.Tuple2[string, string]{verdict.Header("x-h", "1")}
	return http_client.FetchRequest{
		Upstream: upstream, Method: "POST", Path: "/x?y=1", Headers: headers, Body: []byte("hi"), TimeoutMillis: 500,
	}
}

func fetched(answer wit.Result[http_client.FetchResponse, http_client.FetchError]) string {
	if answer.IsErr() {
		names := []string{"not-granted", "no-healthy-endpoint", "timeout", "connect", "protocol", "too-large"}
		return names[answer.Err()]
	}
	found := "-"
	for _, header := range answer.Ok().Headers {
		if header.F0 == "x-r" {
			found = header.F1
		}
	}
	return fmt.Sprintf("%d %s %s", answer.Ok().Status, found, answer.Ok().Body)
}

func consumer(found wit.Result[consumers.Consumer, consumers.Refusal]) string {
	if found.IsErr() {
		return []string{"unknown", "suspended", "expired", "not-subscribed", "quota-exceeded"}[found.Err()]
	}
	known := found.Ok()
	return known.Name + " " + known.Product.SomeOr("-")
}

var faults = []string{
	"malformed", "unknown-key", "bad-signature", "expired", "not-yet-valid", "bad-issuer", "bad-audience",
	"missing-claim", "algorithm-refused", "keys-unavailable",
}

func teapot(status uint16) types.Reply {
	headers := []wit.Tuple2[string, string]{
		verdict.Header("content-type", "text/plain"), verdict.Header("x-two", "1"), verdict.Header("x-two", "2"),
	}
	return types.Reply{Status: status, Headers: headers, Body: []byte("short and stout")}
}

func result(text string) verdict.Result { return verdict.Amend(verdict.Set("x-result", text)) }

func joined(values []verdict.Value) string {
	var all []string
	for _, value := range values {
		all = append(all, value.SomeOr("-"))
	}
	return strings.Join(all, "|")
}
