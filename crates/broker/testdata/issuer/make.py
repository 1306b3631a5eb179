#!/usr/bin/env python3
"""Makes tokens.json: tokens an issuer might send, signed by the openssl program, with fixed times.

Run it to make them anew; the private keys are thrown away.
"""
import base64, hashlib, hmac, json, subprocess, tempfile
from pathlib import Path

ISSUER, AUDIENCE = "https://id.test", "bridge"
LATER, BEFORE = 4102444800, 946684800  # the years 2100 and 2000


def b64(data):
    if isinstance(data, (dict, list)):
        data = json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, given=b""):
    return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True).stdout


def integers(der):
    """r and s of an ECDSA signature, 32 bytes each."""
    out, at = b"", 2
    for _ in range(2):
        length = der[at + 1]
        out += int.from_bytes(der[at + 2 : at + 2 + length], "big").to_bytes(32, "big")
        at += 2 + length
    return out


with tempfile.TemporaryDirectory() as place:
    place = Path(place)

    def private(name, *how):
        openssl("genpkey", *how, "-out", str(place / name))
        return str(place / name)

    rsa, rsa2 = (private(name, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048") for name in ("r1", "r2"))
    ec = private("e1", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    ed = private("d1", "-algorithm", "ED25519")

    def rsa_jwk(key, kid):
        modulus = openssl("rsa", "-in", key, "-noout", "-modulus").decode().split("=")[1]
        return {"kty": "RSA", "kid": kid, "use": "sig", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}

    def raw_public(key, size):
        return openssl("pkey", "-in", key, "-pubout", "-outform", "DER")[-size:]

    point = raw_public(ec, 64)
    keys = {
        "rsa": rsa_jwk(rsa, "rsa"),
        "rsa2": rsa_jwk(rsa2, "rsa2"),
        "ec": {"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256", "x": b64(point[:32]), "y": b64(point[32:])},
        "ed": {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(raw_public(ed, 32))},
    }

    def sign(algorithm, key, text):
        text = text.encode()
        if algorithm == "EdDSA":
            (place / "text").write_bytes(text)
            return openssl("pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", str(place / "text"))
        hashed = "-sha" + algorithm[2:]
        pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"] if algorithm[:2] == "PS" else []
        signature = openssl("dgst", hashed, *pss, "-sign", key, given=text)
        return integers(signature) if algorithm == "ES256" else signature

    def token(algorithm="RS256", key=rsa, kid="rsa", head=None, **claims):
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": LATER, "workspaces": ["default"], "roles": ["operator"]}
        body.update(claims)
        body = {name: value for name, value in body.items() if value is not None}
        header = {"alg": algorithm, "typ": "JWT", "kid": kid, **(head or {})}
        header = {name: value for name, value in header.items() if value is not None}
        text = f"{b64(header)}.{b64(body)}"
        return f"{text}.{b64(sign(algorithm, key, text))}"

    def by_shared_secret(secret):
        good = token().split(".")
        text = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{good[1]}"
        return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    modulus = base64.urlsafe_b64decode(keys["rsa"]["n"] + "==")
    good = token()
    tokens = {
        "good": {
            "RS256": good,
            "PS256": token("PS256"),
            "RS512": token("RS512"),
            "ES256": token("ES256", ec, "ec"),
            "EdDSA": token("EdDSA", ed, "ed"),
            "rotated": token("RS256", rsa2, "rsa2"),
            "without kid": token("ES256", ec, None),
            "audiences": token(aud=["other", AUDIENCE]),
            "admin": token(sub="root@id.test", roles=["admin"]),
            "viewer": token(sub="vic", roles=["viewer"]),
            "by workspace": token(sub="bob", workspaces={"default": ["viewer"], "team": ["admin"], "nowhere": ["admin"]}),
            "nested": token(workspaces=None, roles=None, bridge={"spaces": "default", "may": ["viewer", "nonsense"]}),
            "nothing": token(workspaces=[], roles=["admin"]),
        },
        "bad": {
            "another audience": token(aud="other"),
            "no audience": token(aud=None),
            "another issuer": token(iss="https://evil.test"),
            "no issuer": token(iss=None),
            "expired": token(exp=BEFORE),
            "no end": token(exp=None),
            "not yet": token(nbf=LATER),
            "no subject": token(sub=None),
            "odd subject": token(sub="two words"),
            "unsigned": f"{b64({'alg': 'none', 'typ': 'JWT', 'kid': 'rsa'})}.{good.split('.')[1]}.",
            "shared secret: modulus": by_shared_secret(modulus),
            "shared secret: pem": by_shared_secret(openssl("rsa", "-in", rsa, "-pubout")),
            "another key's id": token("RS256", rsa2, "rsa"),
            "another kind of key": token("ES256", ec, "rsa"),
            "no id and two keys": token("RS256", rsa, None),
            "own key inside": token("RS256", rsa2, "rsa", {"jwk": keys["rsa2"], "jku": "https://evil.test/keys"}),
            "critical": token(head={"crit": ["exp"], "exp": 1}),
            "changed": ".".join([good.split(".")[0], b64({"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": LATER}), good.split(".")[2]]),
        },
        "unknown kid": [token("RS256", rsa, f"unknown-{number}") for number in range(3)],
        "keys": keys,
    }
    target = Path(__file__).parent / "tokens.json"
    target.write_text(json.dumps(tokens, indent=1) + "\n")
