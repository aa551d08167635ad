#!/bin/sh
# Made the files beside it with OpenSSL 3: self-signed certificates with unusual keys, and their
# signatures over what a server signs in the two versions of TLS. Each is made afresh by a new run.
set -e
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
# In TLS 1.2 our random number comes first, in TLS 1.3 spaces do (RFC 8446 §4.4.3).
head -c 100 /dev/zero | tr '\0' '\7' > "$work/1.2"
{ head -c 64 /dev/zero | tr '\0' ' '; printf 'TLS 1.3, server CertificateVerify\0'; head -c 32 /dev/zero | tr '\0' '\7'; } > "$work/1.3"
# key NAME OPTIONS...
key() {
  name=$1; shift
  openssl genpkey "$@" -out "$work/$name.key" 2>/dev/null
  openssl req -x509 -key "$work/$name.key" -subj "/CN=$name" -days 3650 -outform DER -out "$name.der"
}
# signed NAME VERSION SCHEME OPTIONS...
signed() {
  name=$1 version=$2 scheme=$3; shift 3
  openssl dgst "$@" -sign "$work/$name.key" -out "$name.$version.$scheme" "$work/$version"
}
pss='-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest'
for bits in 512 1024 1025 2047; do key rsa$bits -algorithm RSA -pkeyopt rsa_keygen_bits:$bits; done
for bits in 512 1024 1025 2047; do signed rsa$bits 1.2 rsa_pkcs1_sha256 -sha256; done
for bits in 1024 2047; do
  signed rsa$bits 1.2 rsa_pkcs1_sha384 -sha384
  signed rsa$bits 1.2 rsa_pkcs1_sha512 -sha512
done
signed rsa1024 1.2 rsa_pkcs1_sha1 -sha1
signed rsa1024 1.2 rsa_pss_rsae_sha256 -sha256 $pss
for bits in 1024 1025 2047; do
  signed rsa$bits 1.3 rsa_pss_rsae_sha256 -sha256 $pss
  signed rsa$bits 1.3 rsa_pss_rsae_sha384 -sha384 $pss
done
signed rsa2047 1.3 rsa_pss_rsae_sha512 -sha512 $pss

key pss1024 -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:1024
key pss2048 -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
key pss2048-bound -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha384 \
  -pkeyopt rsa_pss_keygen_mgf1_md:sha384 -pkeyopt rsa_pss_keygen_saltlen:48
signed pss1024 1.3 rsa_pss_pss_sha256 -sha256 $pss
for hash in 256 384 512; do signed pss2048 1.3 rsa_pss_pss_sha$hash -sha$hash $pss; done
signed pss2048-bound 1.3 rsa_pss_pss_sha384 -sha384 $pss

key p521 -algorithm EC -pkeyopt ec_paramgen_curve:P-521
signed p521 1.2 ecdsa_secp521r1_sha512 -sha512
signed p521 1.3 ecdsa_secp521r1_sha512 -sha512
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 |
  openssl pkey -ec_conv_form compressed -out "$work/p256-compressed.key"
openssl req -x509 -key "$work/p256-compressed.key" -subj /CN=compressed -days 3650 -outform DER -out p256-compressed.der
signed p256-compressed 1.3 ecdsa_secp256r1_sha256 -sha256
for kind in ed25519 ed448; do
  key $kind -algorithm $kind
  openssl pkeyutl -sign -inkey "$work/$kind.key" -rawin -in "$work/1.3" -out $kind.1.3.$kind
done
