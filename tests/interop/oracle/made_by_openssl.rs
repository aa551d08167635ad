//! Chains that need the openssl command: version 1, SHA-1, short and unusual keys, cross-signed
//! issuers (RFC 5280 §4.1.2.1, RFC 4055 §1.2, RFC 9325 §4.5).

use super::chains::Chain;
use crate::daemon::run_ok;
use std::path::Path;
use std::process::Command;

/// Prints a line for each chain: its name, then its files, the server's certificate first.
const SCRIPT: &str = r#"set -e
ec='-algorithm EC -pkeyopt ec_paramgen_curve:P-256'
rsa='-algorithm RSA -pkeyopt rsa_keygen_bits'
printf 'basicConstraints=critical,CA:TRUE\n' > ca.ext
printf 'subjectAltName=DNS:mx.example.org\n' > leaf.ext
printf 'keyUsage=keyCertSign\n' > usage-only.ext
# key NAME OPTIONS...
key() { name=$1; shift; openssl genpkey "$@" -out "$name.key" 2>/dev/null; }
# made NAME KEY SUBJECT EXTENSIONS ISSUER OPTIONS...: ISSUER - signs itself; "none" makes version 1
made() {
  name=$1 key=$2 subject=$3 extensions=$4 issuer=$5; shift 5
  openssl req -new -key "$key.key" -subj "$subject" -out "$name.csr"
  if [ "$issuer" = - ]; then by="-signkey $key.key"; else by="-CA $issuer.pem -CAkey ${issuer_key:-$issuer}.key -CAcreateserial"; fi
  if [ "$extensions" != none ]; then by="$by -extfile $extensions.ext"; fi
  openssl x509 -req -in "$name.csr" $by -days 3000 "$@" -out "$name.pem" 2>/dev/null
  openssl x509 -in "$name.pem" -outform DER -out "$name.der"
}
say() { printf '%s' "$1"; shift; for file; do printf '|%s.der' "$file"; done; printf '\n'; }

key leaf $ec; key root $ec; key middle $ec
made root root /CN=Root ca -
made leaf leaf /CN=leaf leaf root
made old-root root /CN=Root none -
say 'version 1 root' leaf old-root
made old-middle middle /CN=Middle none root
issuer_key=middle; made below-old leaf /CN=leaf leaf old-middle; issuer_key=
say 'version 1 issuer' below-old old-middle root
made old-leaf leaf /CN=mx.example.org none root
say 'version 1 leaf' old-leaf root
made old-alone leaf /CN=mx.example.org none -
say 'depth 0, version 1 alone' old-alone
made usage-only root /CN=Root usage-only -
say 'root with key usage and no basic constraints' leaf usage-only

made sha1-leaf leaf /CN=leaf leaf root -sha1
say 'leaf signed with SHA-1' sha1-leaf root
made sha1-root root /CN=Root ca - -sha1
say 'root signed with SHA-1' leaf sha1-root
made sha1-alone leaf /CN=leaf leaf - -sha1
say 'depth 0, alone signed with SHA-1' sha1-alone
made sha1-middle middle /CN=Middle ca root -sha1
issuer_key=middle; made below-sha1 leaf /CN=leaf leaf sha1-middle; issuer_key=
say 'issuer signed with SHA-1' below-sha1 sha1-middle root

for bits in 512 1024 2048 4096; do
  key rsa$bits $rsa:$bits
  made rsa$bits-root rsa$bits /CN=Root ca - 
  issuer_key=rsa$bits; made by-rsa$bits leaf /CN=leaf leaf rsa$bits-root; issuer_key=
  say "root with RSA $bits" by-rsa$bits rsa$bits-root
  made rsa$bits-leaf rsa$bits /CN=leaf leaf root
  say "leaf with RSA $bits" rsa$bits-leaf root
done
key pss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
made pss-root pss /CN=Root ca -
issuer_key=pss; made by-pss leaf /CN=leaf leaf pss-root -sigopt rsa_pss_saltlen:-1
say 'root with RSASSA-PSS key' by-pss pss-root
made by-salty leaf /CN=leaf leaf pss-root; issuer_key=
say 'root with RSASSA-PSS key and the longest salt' by-salty pss-root
made pss-leaf pss /CN=leaf leaf root
say 'leaf with RSASSA-PSS key' pss-leaf root
key bound -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_pss_keygen_md:sha384 \
  -pkeyopt rsa_pss_keygen_mgf1_md:sha384 -pkeyopt rsa_pss_keygen_saltlen:48
made bound-root bound /CN=Root ca - -sha384
issuer_key=bound; made by-bound leaf /CN=leaf leaf bound-root -sha384; issuer_key=
say 'root with RSASSA-PSS key bound to SHA-384' by-bound bound-root
issuer_key=rsa2048; made signed-by-pss leaf /CN=leaf leaf rsa2048-root -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1; issuer_key=
say 'leaf signed with PSS by an ordinary RSA key' signed-by-pss rsa2048-root
issuer_key=rsa2048; made salted leaf /CN=leaf leaf rsa2048-root -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20; issuer_key=
say 'leaf signed with PSS and a short salt' salted rsa2048-root

for curve in P-384 P-521 secp256k1 brainpoolP256r1; do
  key $curve -algorithm EC -pkeyopt ec_paramgen_curve:$curve
  made $curve-root $curve /CN=Root ca - 
  issuer_key=$curve; made by-$curve leaf /CN=leaf leaf $curve-root; issuer_key=
  say "root with $curve" by-$curve $curve-root
done
for curve in ED25519 ED448; do
  key $curve -algorithm $curve
  made $curve-root $curve /CN=Root ca -
  issuer_key=$curve; made by-$curve leaf /CN=leaf leaf $curve-root; issuer_key=
  say "root with $curve" by-$curve $curve-root
done

# Two roots; the middle is signed by both, and the server sends both of its certificates.
key other $ec
made other other /CN=Other ca -
made middle-by-root middle /CN=Middle ca root
made middle-by-other middle /CN=Middle ca other
issuer_key=middle; made crossed leaf /CN=leaf leaf middle-by-root; issuer_key=
say 'cross-signed, one way' crossed middle-by-root middle-by-other root
say 'cross-signed, other way' crossed middle-by-other middle-by-root other
say 'cross-signed, both roots' crossed middle-by-root middle-by-other root other

# The issuer is named otherwise in case, spaces and string type.
made loud root '/CN=ROOT' ca -
say 'root named in upper case' leaf loud
made spaced-leaf-issuer root '/CN=My  Root ' ca -
issuer_key=root; made spaced leaf /CN=leaf leaf spaced-leaf-issuer; issuer_key=
made tight root '/CN=my root' ca -
say 'root named with other spaces' spaced tight
"#;

/// The chains of the script above.
pub(crate) fn chains(dir: &Path) -> Vec<Chain> {
    let said = run_ok(Command::new("sh").current_dir(dir).args(["-c", SCRIPT]));
    let read = |line: &str| {
        let mut words = line.split('|');
        let name = words.next().unwrap().to_owned();
        let path: Vec<Vec<u8>> = words.map(|file| std::fs::read(dir.join(file)).unwrap()).collect();
        Chain { name, sent: path.clone(), path }
    };
    said.lines().map(read).collect()
}
