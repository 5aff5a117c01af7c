#!/usr/bin/env bash
# rustls and jsonwebtoken panic at run time when two crypto back ends are compiled in. All of
# witgate's cryptography is aws-lc; this fails if another one came in through a dependency.
set -euo pipefail

for crate in ring openssl-sys rsa native-tls; do
    if cargo tree --workspace --locked --target all -e normal,build -i "$crate" 2>/dev/null | grep -q .; then
        echo "witgate: $crate is in the dependency tree:" >&2
        cargo tree --workspace --locked --target all -e normal,build -i "$crate" >&2
        exit 1
    fi
done
echo "one crypto back end: aws-lc"
