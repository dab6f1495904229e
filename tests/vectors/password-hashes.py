#!/usr/bin/env python3
"""Prints hashes made by the libraries that other programs use, one JSON object a line, for password-hashes.jsonl.

    python3 -m venv target/vectors
    target/vectors/bin/pip install argon2-cffi==25.1.0 bcrypt==4.0.1 Django==5.2.19 passlib==1.7.4
    target/vectors/bin/python tests/vectors/password-hashes.py > tests/vectors/password-hashes.jsonl

argon2-cffi is the reference implementation in C; hashlib is OpenSSL. bcrypt 4.0.1 is the last one that passlib knows, and that
cuts what is longer than 72 bytes, as all did before. The salts are random, so each run prints others.
"""

import base64
import hashlib
import json
import os
import ssl
from importlib.metadata import version

import bcrypt
from argon2 import Type, low_level
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from passlib import hash as passlib

PASSWORDS = ["password", "p\u00e4ssword", " \U0001f435 spaces count ", "a" * 63 + "\u20ac and more than bcrypt looks at"]
DECOMPOSED = "pa\u0308ssword"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def emit(made_by: str, password: str, made: str | bytes) -> None:
    text = made if isinstance(made, str) else made.decode()
    print(json.dumps({"made_by": made_by, "password": password, "hash": text}))


def argon2() -> None:
    made_by = f"argon2-cffi {version('argon2-cffi')}"
    for number, password in enumerate([*PASSWORDS, DECOMPOSED]):
        for kind in Type:
            made = low_level.hash_secret(password.encode(), os.urandom(8 + number * 8), 1 + number, 64, 1 + number, 32, kind)
            emit(made_by, password, made)
    for variant in (16, 19):
        made = low_level.hash_secret(b"password", os.urandom(16), 2, 128, 2, 24, Type.I, variant)
        emit(made_by, "password", made)
    emit(f"passlib {version('passlib')}", "password", passlib.argon2.using(memory_cost=256, rounds=2).hash("password"))


def bcrypts() -> None:
    for password in [*PASSWORDS, DECOMPOSED]:
        for prefix in (b"2a", b"2b"):
            emit(f"bcrypt {version('bcrypt')}", password, bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix)))
        for ident in ("2a", "2b", "2y"):
            emit(f"passlib {version('passlib')}", password, passlib.bcrypt.using(rounds=5, ident=ident).hash(password))
    emit(f"bcrypt {version('bcrypt')}", "password", bcrypt.hashpw(b"password", bcrypt.gensalt()))


def scrypt() -> None:
    for password in [*PASSWORDS, DECOMPOSED]:
        for cost, size, lanes in ((1, 1, 1), (4, 1, 3), (5, 3, 2), (6, 12, 1), (10, 8, 1)):
            made = passlib.scrypt.using(rounds=cost, block_size=size, parallelism=lanes).hash(password)
            emit(f"passlib {version('passlib')}", password, made)
    for password, cost, size, lanes, salted, length in (
        ("password", 4, 2, 1, 1, 16),
        (DECOMPOSED, 7, 5, 4, 20, 64),
        ("password", 12, 8, 1, 32, 32),
    ):
        salt = os.urandom(salted)
        made = hashlib.scrypt(password.encode(), salt=salt, n=1 << cost, r=size, p=lanes, dklen=length, maxmem=1 << 28)
        emit(ssl.OPENSSL_VERSION, password, f"$scrypt$ln={cost},r={size},p={lanes}${b64(salt)}${b64(made)}")


def pbkdf2() -> None:
    django = PBKDF2PasswordHasher()
    for number, password in enumerate([*PASSWORDS, DECOMPOSED]):
        emit(f"Django {version('django')}", password, django.encode(password, django.salt(), 1 + number * 100))
        for handler in (passlib.pbkdf2_sha256, passlib.pbkdf2_sha512):
            made = handler.using(rounds=1 + number * 100, salt_size=4 + number * 10).hash(password)
            emit(f"passlib {version('passlib')}", password, made)
        for digest, length, with_length in (("sha256", 32, True), ("sha512", 64, False), ("sha256", 48, True)):
            salt = os.urandom(16)
            made = hashlib.pbkdf2_hmac(digest, password.encode(), salt, 1000, length)
            cost = "i=1000" + (f",l={length}" if with_length else "")
            emit(ssl.OPENSSL_VERSION, password, f"$pbkdf2-{digest}${cost}${b64(salt)}${b64(made)}")
    for handler in (passlib.pbkdf2_sha256, passlib.pbkdf2_sha512):
        emit(f"passlib {version('passlib')}", "password", handler.hash("password"))


if __name__ == "__main__":
    argon2()
    bcrypts()
    scrypt()
    pbkdf2()
