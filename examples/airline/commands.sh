# The demo's commands and what each must say: the one list that start.sh prints and try.sh runs.
#
# Sourced with PORT, TLS_PORT, ADMIN_PORT and AIRLINE_STATE set. Whoever sources it defines
#   step TITLE COMMAND EXPECTED...
# where each EXPECTED is an extended regular expression that a line of the command's output must
# match, whatever the case; `!` before it: no line may.

public="http://127.0.0.1:$PORT"
secure="https://localhost:$TLS_PORT"
admin="http://127.0.0.1:$ADMIN_PORT"

token() { printf -- "-H \"Authorization: Bearer \$(cat %s/%s.jwt)\"" "$AIRLINE_STATE" "$1"; }
key() { printf -- "-H 'Ocp-Apim-Subscription-Key: airline-%s-key'" "$1"; }

airline_commands() {
    step 'Without a token the employees stay among themselves' \
        "curl -si $public/api/employee" \
        '^HTTP/1.1 401' '^www-authenticate: Bearer' '^content-type: application/problem\+json'

    step 'Anna has one' \
        "curl -si $(token anna) $public/api/employee" \
        '^HTTP/1.1 200' 'Amelia Brandt' '^x-request-id: ' '!^server: airline' '^x-content-type-options: nosniff'

    step 'The service learns who she is, whatever the client says; it never sees the token' \
        "curl -si $(token anna) -H 'X-User: root' -H 'X-Role: root' -H 'X-Debug: 1' $public/api/employee/whoami" \
        '^HTTP/1.1 200' '"x-user":"anna"' '"x-role":"captain"' '"x-api":"employee-api"' \
        '!"root"' '!"authorization"' '!"x-debug"'

    step 'A token that has expired is none' \
        "curl -si $(token expired) $public/api/employee" \
        '^HTTP/1.1 401' 'expired'

    step 'Nor is one that says it needs no signature' \
        "curl -si $(token unsigned) $public/api/employee" \
        '^HTTP/1.1 401'

    step 'A method that no operation has' \
        "curl -si -X DELETE $(token anna) $public/api/employee/1" \
        '^HTTP/1.1 405' '^allow: .*GET'

    step 'A page may ask first, without credentials' \
        "curl -si -X OPTIONS -H 'Origin: https://app.airline.example' -H 'Access-Control-Request-Method: GET' $public/api/employee" \
        '^HTTP/1.1 204' '^access-control-allow-origin: https://app\.airline\.example'

    step 'The flight logs want a subscription key' \
        "curl -si $public/api/flight" \
        '^HTTP/1.1 401' 'subscription key is missing'

    step 'With one they open, over TLS as well' \
        "curl -si --cacert $AIRLINE_STATE/localhost.pem $(key mobile) $secure/api/flight/1001" \
        '^HTTP/[12.]+ 200' 'D-AIBC' '^ratelimit: '

    step 'The key stays at the gateway, in the query too' \
        "curl -si '$public/api/flight/whoami?subscription-key=airline-mobile-key&x=1'" \
        '^HTTP/1.1 200' '"target":"/api/flight/whoami\?x=1"' '!airline-mobile-key'

    step 'The policy from the plugin directory tells the registry of an aircraft' \
        "curl -si $(key mobile) '$public/api/flight?tail=N242WG'" \
        '^HTTP/1.1 200' '^x-registry-seen: United States' 'JFK'

    step 'and refuses what is no tail number' \
        "curl -si $(key mobile) '$public/api/flight?tail=nonsense'" \
        '^HTTP/1.1 400' 'tail number'

    step 'One document from both services at once' \
        "curl -si $(key mobile) $public/api/overview" \
        '^HTTP/1.1 200' '"employees":\[' '"flights":\[' '!^x-partial'

    step 'Twenty flight logs a minute are enough for an analyst' \
        "for n in \$(seq 25); do curl -s -o /dev/null -D - $(key analyst) $public/api/flight/1001; done | tail -n 12" \
        '^HTTP/1.1 429' '^retry-after: [0-9]+'

    step 'The crew room is for the office network' \
        "curl -si $public/crew-room" \
        '^HTTP/1.1 403'

    step 'Two spellings of one path do not fool anybody' \
        "curl -si --path-as-is $public/api/flight/..%2femployee" \
        '^HTTP/1.1 400' 'path_refused'

    step 'What the gateway counted' \
        "curl -s $admin/metrics | grep employee-api" \
        'witgate_.*employee-api'
}
