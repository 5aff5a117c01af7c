// Package policy lets only requests with a certain header through, and tells the upstream who sent them.
package policy

import (
	"encoding/json"
	"fmt"
	"regexp"

	"witgate/plan"
	"witgate/verdict"
)

// What the upstream learns; whatever a client sends in it is overwritten.
const address = "x-client-address"

// Checked before Configure, and shown by editors.
func ConfigSchema() string {
	return `{
		"type": "object",
		"properties": {
			"header": { "type": "string", "description": "The header that a request must have." }
		},
		"required": ["header"],
		"additionalProperties": false
	}`
}

// What is neither read nor written here never reaches the policy, nor leaves it.
func Configure(text string) verdict.Done {
	var config struct{ Header string }
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return verdict.Failed(err.Error())
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(config.Header) {
		return verdict.Failed(fmt.Sprintf("header: `%s` is no header name", config.Header))
	}
	plan.RequestReads([]string{config.Header, "client:ip"})
	plan.Writes([]string{address})
	return verdict.Ok()
}

func OnRequest(values []verdict.Value) verdict.Result {
	sent, client := values[0], values[1]
	if sent.SomeOr("") == "" {
		return verdict.Respond(verdict.Problem(400, "A header is missing", "a header must be sent"))
	}
	return verdict.Amend(verdict.Set(address, client.SomeOr("")))
}
