// Lets only requests with a certain header through, and tells the upstream who sent them.
import * as plan from "witgate:policy/plan@0.1.0";
import { amend, problem, set } from "./witgate.js";

// What the upstream learns; whatever a client sends in it is overwritten.
const ADDRESS = "x-client-address";

// Checked before `configure`, and shown by editors.
export function configSchema() {
  return JSON.stringify({
    type: "object",
    properties: { header: { type: "string", description: "The header that a request must have." } },
    required: ["header"],
    additionalProperties: false,
  });
}

// What is neither read nor written here never reaches the policy, nor leaves it.
export function configure(text) {
  const { header } = JSON.parse(text);
  if (!/^[\w-]+$/.test(header)) throw `header: \`${header}\` is no header name`;
  plan.requestReads([header, "client:ip"]);
  plan.writes([ADDRESS]);
}

// What is thrown is the policy's own failure (503); to refuse a request is to answer it.
export function onRequest([sent, address]) {
  if (!sent) return problem(400, "A header is missing", "a header must be sent");
  return amend(set(ADDRESS, address));
}
