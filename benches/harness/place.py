"""Where one run happens: a scratch directory, free ports, binaries, keys and certificates.

Made by the `run` scripts; everything that a case writes goes into its directory, which they remove.
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
# Where `benches/peers/install` puts what is not packaged by the system.
PEERS = os.path.join(ROOT, "target", "peers", "bin")
WITGATE = os.path.join(TARGET, "release", "witgate")


class Place:
    def __init__(self, directory, witgate):
        self.directory = directory
        # Started by root, nginx reads files as nobody.
        os.chmod(directory, 0o755)
        self.port, self.upstream, self.admin = free_ports(3)
        self.path = os.pathsep.join([os.environ.get("PATH", ""), PEERS, "/usr/sbin", "/usr/local/sbin"])
        self.witgate = witgate
        self._token = self._certificate = None

    def find(self, name):
        if name == "witgate":
            return self.witgate if os.access(self.witgate, os.X_OK) else None
        return shutil.which(name, path=self.path)

    def file(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.file(name), "w") as file:
            file.write(text)
        return self.file(name)

    def guest(self, package):
        """A policy of the workspace as a component, built once; None where that is not possible."""
        out = self.file(os.path.join("guests", package + ".wasm"))
        if not os.path.exists(out):
            script = os.path.join(ROOT, "tools", "build-guest.sh")
            if not built([script, package, out], f"the policy {package}"):
                return None
        return out

    def certificate(self):
        """A certificate for 127.0.0.1 by a P-256 key: (certificate, key, both in one file)."""
        if self._certificate is None:
            cert, key = self.file("cert.pem"), self.file("key.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                 "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
            with open(cert) as one, open(key) as other:
                both = self.write("both.pem", one.read() + other.read())
            self._certificate = (cert, key, both)
        return self._certificate

    def openssl_settings(self):
        """A file for OPENSSL_CONF: one protocol and one cipher, so that all proxies do the same work."""
        return self.write("openssl.cnf", """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
MinProtocol = TLSv1.3
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
""")

    def token(self):
        """An RS256 token that is good for a day, and the key set that it is verified by."""
        if self._token is None:
            key = self.file("rs256.pem")
            subprocess.run(
                ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key],
                check=True, stderr=subprocess.DEVNULL)
            modulus = subprocess.run(
                ["openssl", "rsa", "-in", key, "-noout", "-modulus"], check=True, capture_output=True, text=True
            ).stdout.strip().split("=")[1]
            jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench",
                   "n": _b64(bytes.fromhex(modulus)), "e": "AQAB"}
            head = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
            claims = {"iss": "https://id.example.com", "aud": "api", "sub": "u-4711", "scope": "flights:read",
                      "iat": int(time.time()), "exp": int(time.time()) + 86400}
            signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
            signature = subprocess.run(
                ["openssl", "dgst", "-sha256", "-sign", key], check=True, input=signed.encode(), capture_output=True
            ).stdout
            self._token = (signed + "." + _b64(signature), {"keys": [jwk]})
        return self._token


def built(command, what):
    """Whether a build went well; why not goes to standard error."""
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        print(f"{what} does not build:\n{result.stderr[-2000:]}", file=sys.stderr)
    return result.returncode == 0


def free_ports(count):
    """Ports that nobody listens on; taken together, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
