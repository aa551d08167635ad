"""Asks OpenSSL's libraries whether a certificate chain satisfies TLSA records (RFC 7671, RFC 7672).

One JSON object a line comes in: chain and records in hexadecimal, names, time, level. One line
goes out for each: "ok USAGE SELECTOR MATCHING DEPTH", "no ERROR", or "unusable". The calls are
those that a TLS client makes after the server's Certificate message; only the socket is missing.
"""
import ctypes, json, sys

ssl, crypto = ctypes.CDLL("libssl.so.3"), ctypes.CDLL("libcrypto.so.3")
pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p


def function(library, name, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found


TLS_client_method = function(ssl, "TLS_client_method", pointer)
SSL_CTX_new = function(ssl, "SSL_CTX_new", pointer, pointer)
SSL_CTX_dane_enable = function(ssl, "SSL_CTX_dane_enable", integer, pointer)
SSL_new = function(ssl, "SSL_new", pointer, pointer)
SSL_free = function(ssl, "SSL_free", None, pointer)
SSL_dane_enable = function(ssl, "SSL_dane_enable", integer, pointer, text)
SSL_dane_set_flags = function(ssl, "SSL_dane_set_flags", ctypes.c_ulong, pointer, ctypes.c_ulong)
SSL_dane_tlsa_add = function(
    ssl, "SSL_dane_tlsa_add", integer,
    pointer, ctypes.c_uint8, ctypes.c_uint8, ctypes.c_uint8, text, ctypes.c_size_t)
SSL_add1_host = function(ssl, "SSL_add1_host", integer, pointer, text)
SSL_get0_param = function(ssl, "SSL_get0_param", pointer, pointer)
SSL_set_hostflags = function(ssl, "SSL_set_hostflags", None, pointer, ctypes.c_uint)
SSL_get0_dane = function(ssl, "SSL_get0_dane", pointer, pointer)
SSL_get0_dane_authority = function(ssl, "SSL_get0_dane_authority", integer, pointer, pointer, pointer)
SSL_get0_dane_tlsa = function(ssl, "SSL_get0_dane_tlsa", integer, pointer, pointer, pointer, pointer, pointer, pointer)
d2i_X509 = function(crypto, "d2i_X509", pointer, pointer, pointer, ctypes.c_long)
X509_free = function(crypto, "X509_free", None, pointer)
OPENSSL_sk_new_null = function(crypto, "OPENSSL_sk_new_null", pointer)
OPENSSL_sk_push = function(crypto, "OPENSSL_sk_push", integer, pointer, pointer)
OPENSSL_sk_free = function(crypto, "OPENSSL_sk_free", None, pointer)
X509_STORE_new = function(crypto, "X509_STORE_new", pointer)
X509_STORE_CTX_new = function(crypto, "X509_STORE_CTX_new", pointer)
X509_STORE_CTX_init = function(crypto, "X509_STORE_CTX_init", integer, pointer, pointer, pointer, pointer)
X509_STORE_CTX_set_default = function(crypto, "X509_STORE_CTX_set_default", integer, pointer, text)
X509_STORE_CTX_get0_param = function(crypto, "X509_STORE_CTX_get0_param", pointer, pointer)
X509_STORE_CTX_set0_dane = function(crypto, "X509_STORE_CTX_set0_dane", None, pointer, pointer)
X509_STORE_CTX_get_error = function(crypto, "X509_STORE_CTX_get_error", integer, pointer)
X509_STORE_CTX_free = function(crypto, "X509_STORE_CTX_free", None, pointer)
X509_VERIFY_PARAM_set1 = function(crypto, "X509_VERIFY_PARAM_set1", integer, pointer, pointer)
X509_VERIFY_PARAM_set_time = function(crypto, "X509_VERIFY_PARAM_set_time", None, pointer, ctypes.c_long)
X509_VERIFY_PARAM_set_auth_level = function(crypto, "X509_VERIFY_PARAM_set_auth_level", None, pointer, integer)
X509_verify_cert = function(crypto, "X509_verify_cert", integer, pointer)
X509_verify_cert_error_string = function(crypto, "X509_verify_cert_error_string", text, ctypes.c_long)

NO_DANE_EE_NAMECHECKS = 1  # RFC 7672 §3.1.1
NO_PARTIAL_WILDCARDS = 4  # RFC 7672 §3.2.3; Postfix sets it too
context, store = SSL_CTX_new(TLS_client_method()), X509_STORE_new()
assert SSL_CTX_dane_enable(context) == 1


def read(der):
    octets = ctypes.create_string_buffer(der, len(der))
    place = ctypes.c_void_p(ctypes.addressof(octets))
    return d2i_X509(None, ctypes.byref(place), len(der))


def connection(case):
    """A TLS client set up for DANE; None when no record is usable."""
    client = SSL_new(context)
    assert SSL_dane_enable(client, case["names"][0].encode()) == 1
    SSL_dane_set_flags(client, NO_DANE_EE_NAMECHECKS)
    SSL_set_hostflags(client, NO_PARTIAL_WILDCARDS)
    for name in case["names"][1:]:
        assert SSL_add1_host(client, name.encode()) == 1
    usable = 0
    for usage, selector, matching, data in case["records"]:
        data = bytes.fromhex(data)
        usable += SSL_dane_tlsa_add(client, usage, selector, matching, data, len(data)) == 1
    if not usable:
        SSL_free(client)
        return None
    return client


def matched(client):
    depth = SSL_get0_dane_authority(client, None, None)
    usage, selector, matching = (ctypes.c_uint8() for _ in range(3))
    found = [ctypes.byref(number) for number in (usage, selector, matching)]
    SSL_get0_dane_tlsa(client, *found, None, None)
    return f"ok {usage.value} {selector.value} {matching.value} {depth}"


def say(case):
    certificates = [read(bytes.fromhex(der)) for der in case["chain"]]
    if not certificates[0]:
        return "no certificate"
    client = connection(case)
    if client is None:
        return "unusable"
    untrusted = OPENSSL_sk_new_null()
    for certificate in certificates:
        if certificate:
            OPENSSL_sk_push(untrusted, certificate)
    job = X509_STORE_CTX_new()
    assert X509_STORE_CTX_init(job, store, certificates[0], untrusted) == 1
    X509_STORE_CTX_set0_dane(job, SSL_get0_dane(client))
    assert X509_STORE_CTX_set_default(job, b"ssl_server") == 1
    parameters = X509_STORE_CTX_get0_param(job)
    assert X509_VERIFY_PARAM_set1(parameters, SSL_get0_param(client)) == 1
    X509_VERIFY_PARAM_set_time(parameters, case["time"])
    X509_VERIFY_PARAM_set_auth_level(parameters, case["level"])
    good = X509_verify_cert(job)
    error = X509_verify_cert_error_string(X509_STORE_CTX_get_error(job)).decode()
    said = matched(client) if good == 1 else f"no {error}"
    X509_STORE_CTX_free(job)
    OPENSSL_sk_free(untrusted)
    SSL_free(client)
    for certificate in certificates:
        X509_free(certificate)
    return said


for line in sys.stdin:
    print(say(json.loads(line)))
