// SPDX-License-Identifier: Apache-2.0

use proptest::prelude::*;

use super::*;

/// A vector whose length has `width` bytes.
fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, data)].concat()
}

/// A `server_name` extension with entries of a type and a name.
fn sni(entries: &[(u8, &str)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .flat_map(|(kind, name)| [vec![*kind], vector(2, name.as_bytes())].concat());
    extension(0, &vector(2, &entries.collect::<Vec<_>>()))
}

/// A `ClientHello` message with these extensions; `None`: without the field for extensions.
fn hello(extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(vector(1, &[9; 32]));
    // GREASE (RFC 8701) and TLS_AES_128_GCM_SHA256.
    body.extend(vector(2, &[0x4a, 0x4a, 0x13, 0x01]));
    body.extend(vector(1, &[0]));
    if let Some(extensions) = extensions {
        body.extend(vector(2, &extensions.concat()));
    }
    [vec![1], vector(3, &body)].concat()
}

/// A message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment| [vec![22, 3, 1], vector(2, fragment)].concat();
    message.chunks(size).flat_map(record).collect()
}

fn tls(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&hello(Some(extensions)), 1 << 14)
}

fn names(expected: &[&str]) -> FirstBytes {
    FirstBytes::Names(expected.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_client_hello_has_the_names_of_its_extensions() {
    use UnnamedServer::{MalformedTls, Tls};
    let grease = || extension(0x2a2a, &[]);
    let versions = || extension(43, &[2, 3, 4]);
    let check = |bytes: Vec<u8>, expected: FirstBytes| {
        assert_eq!(FirstBytes::inspect(&bytes), expected, "{bytes:02x?}");
    };
    let one = || sni(&[(0, "a.example")]);
    check(tls(&[one()]), names(&["a.example"]));
    check(tls(&[grease(), one(), versions()]), names(&["a.example"]));
    check(tls(&[sni(&[(0, "A.Example.")])]), names(&["A.Example."]));
    check(
        tls(&[sni(&[(0, "xn--bcher-kva.example")])]),
        names(&["xn--bcher-kva.example"]),
    );
    // What RFC 6066 forbids, but some server might take.
    let two = [(0, "a.example"), (0, "b.example")];
    check(tls(&[sni(&two)]), names(&["a.example", "b.example"]));
    let repeated = [one(), sni(&[(0, "b.example")])];
    check(tls(&repeated), names(&["a.example", "b.example"]));
    let other_type = [(7, "x"), (0, "a.example")];
    check(tls(&[sni(&other_type)]), names(&["a.example"]));
    check(tls(&[sni(&[(0, "")])]), names(&[""]));

    check(tls(&[grease(), versions()]), FirstBytes::Unnamed(Tls));
    check(tls(&[]), FirstBytes::Unnamed(Tls));
    check(records(&hello(None), 1 << 14), FirstBytes::Unnamed(Tls));
    check(tls(&[sni(&[(7, "x")])]), FirstBytes::Unnamed(Tls));
    check(tls(&[sni(&[])]), FirstBytes::Unnamed(Tls));

    let malformed = FirstBytes::Unnamed(MalformedTls);
    check(tls(&[extension(0, &[0, 9, 0])]), malformed.clone());
    check(tls(&[extension(0, &[0, 0, 1])]), malformed.clone());
    check(tls(&[vec![0, 0, 0, 200]]), malformed.clone());
    let trailing = [hello(Some(&[one()]))[4..].to_vec(), vec![1]].concat();
    let trailing = [vec![1], vector(3, &trailing)].concat();
    check(records(&trailing, 1 << 14), malformed.clone());
    check(records(&[2, 0, 0, 1, 0], 5), malformed.clone());
    check(vec![22, 3, 1, 0, 0], malformed.clone());
    check(vec![22, 3, 1, 0x40, 1], malformed.clone());
    let alert_between = [&records(&hello(None)[..9], 9), &[21, 3, 1, 0, 2, 1, 0][..]].concat();
    check(alert_between, malformed);
    check(vec![22, 2, 1], FirstBytes::OtherProtocol);
}

/// The first bytes of OpenSSL 3 to a.example.
const OPENSSL_HELLO: &str = "\
    1603010200010001fc030331da17d5dfbe0396988284c3288086dae40df73cc1165b319984e2545bedf66820\
    6422587121c53cec7ee88c37113514cd46caaa90e91233d0ceb8b816e7c15d960024130213031301c02cc030\
    c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100018f0000000e000c000009612e657861\
    6d706c65000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016\
    000000170000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301\
    0302040205020602002b00050403040303002d00020101003300260024001d002005eb9557441eaac824e7b4\
    ca8274d33f3fed5867f4669fb3a9735dc5db5a485f001500e400000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    000000000000000000000000000000000000000000000000000000000000000000\
";

#[test]
fn a_client_hello_of_openssl_has_its_name() {
    let digits = OPENSSL_HELLO;
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let bytes: Vec<_> = (0..digits.len()).step_by(2).map(byte).collect();
    assert_eq!(FirstBytes::inspect(&bytes), names(&["a.example"]));
}

#[test]
fn a_client_hello_is_complete_with_its_last_byte_however_it_is_cut() {
    let message = hello(Some(&[extension(21, &[0; 300]), sni(&[(0, "a.example")])]));
    for size in [1, 2, 3, 4, 5, 100, message.len()] {
        let whole = records(&message, size);
        for end in 0..whole.len() {
            let FirstBytes::Incomplete { needed } = FirstBytes::inspect(&whole[..end]) else {
                panic!("decided after {end} of {} bytes", whole.len());
            };
            assert!(end < needed && needed <= whole.len());
        }
        assert_eq!(FirstBytes::inspect(&whole), names(&["a.example"]));
    }
}

#[test]
fn a_greeting_of_ssl_2_has_no_name() {
    let check = |bytes: &[u8], expected| assert_eq!(FirstBytes::inspect(bytes), expected);
    check(
        &[0x80, 46, 1, 3, 1],
        FirstBytes::Unnamed(UnnamedServer::Tls),
    );
    check(
        &[0x80, 46, 1, 0, 2],
        FirstBytes::Unnamed(UnnamedServer::Tls),
    );
    check(&[0x80, 46, 2], FirstBytes::OtherProtocol);
    check(&[0x80, 46, 1, 9], FirstBytes::OtherProtocol);
    check(&[0x80], FirstBytes::Incomplete { needed: 3 });
    check(&[0x80, 46, 1], FirstBytes::Incomplete { needed: 4 });
}

#[test]
fn a_request_has_the_names_of_its_target_and_its_host_fields() {
    use UnnamedServer::{Http, PlainHttp2};
    let check = |text: &str, expected: FirstBytes| {
        assert_eq!(FirstBytes::inspect(text.as_bytes()), expected, "{text:?}");
    };
    let whole = |head: &str| format!("{head}\r\n\r\n");
    let a = || names(&["a.example"]);
    check(&whole("GET / HTTP/1.1\r\nHost: a.example"), a());
    check(&whole("GET / HTTP/1.1\r\nHost: a.example:8080"), a());
    check(
        &whole("GET / HTTP/1.1\r\nUser-Agent: x\r\nHOST:a.example \r\nX: y"),
        a(),
    );
    check(
        &whole("GET / HTTP/1.1\r\nhost: A.example."),
        names(&["A.example."]),
    );
    check(
        &whole("GET / HTTP/1.1\r\nHost: b\u{fc}cher.example"),
        names(&["b\u{fc}cher.example"]),
    );
    check(
        &whole("GET / HTTP/1.1\r\nHost: [2001:db8::7]:80"),
        names(&["2001:db8::7"]),
    );
    check(&whole("GET http://a.example/x HTTP/1.0"), a());
    check(&whole("GET http://u:p@a.example:80?x HTTP/1.0"), a());
    check(&whole("CONNECT a.example:443 HTTP/1.1"), a());
    check("GET http://a.example/\r\n", a());
    check(
        "GET /?u=http://a.example HTTP/1.0\r\n\r\n",
        FirstBytes::Unnamed(Http),
    );

    // Requests that servers read in different ways have every name.
    let both = || names(&["a.example", "b.example"]);
    check(
        &whole("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example"),
        both(),
    );
    check(
        &whole("GET http://a.example/ HTTP/1.1\r\nHost: b.example"),
        both(),
    );
    check(
        "GET / HTTP/1.1\nHost: a.example\nHost : b.example\n\n",
        both(),
    );
    check(
        &whole("GET / HTTP/1.1\r\nHost: a.example\rHost: b.example"),
        both(),
    );
    check(
        &whole("GET / HTTP/1.1\rHost: a.example\r\n Host: b.example"),
        both(),
    );
    check(&whole("\r\n\r\nGET\t/  http/1.1\r\nHost: a.example"), a());

    check(&whole("GET / HTTP/1.1\r\nX: y"), FirstBytes::Unnamed(Http));
    check(&whole("GET / HTTP/1.1\r\nHost:"), FirstBytes::Unnamed(Http));
    check(
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        FirstBytes::Unnamed(PlainHttp2),
    );

    for other in [
        "SSH-2.0-OpenSSH_10.0\r\n",
        "EHLO a.example\r\n",
        "* OK ready\r\n",
        "a1 LOGIN user password\r\n",
        "GET /\r\n",
        "REGISTER sip:a.example SIP/2.0\r\n",
        "{\"a\":",
        "\0\0\0\x08\x04\u{d2}\x16/",
        "AN-UNUSUALLY-LONG-WORD-OF-MORE-THAN-32-BYTES",
    ] {
        check(other, FirstBytes::OtherProtocol);
    }
    for part in [
        "G",
        "GET",
        "GET ",
        "\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\n",
        "EHLO a",
    ] {
        let needed = part.len() + 1;
        check(part, FirstBytes::Incomplete { needed });
    }
}

#[test]
fn the_end_of_the_stream_ends_a_request() {
    let check = |text: &str, expected: FirstBytes| {
        let found = FirstBytes::inspect_at_end(text.as_bytes());
        assert_eq!(found, expected, "{text:?}");
    };
    check("GET / HTTP/1.0\r\nHost: a.example", names(&["a.example"]));
    check("GET / HTTP/1.0", FirstBytes::Unnamed(UnnamedServer::Http));
    check("EHLO a", FirstBytes::OtherProtocol);
    check("EHLO", FirstBytes::OtherProtocol);
}

#[test]
fn a_name_beyond_the_limit_is_not_searched() {
    let too_long = FirstBytes::Unnamed(UnnamedServer::TooLong);
    let padding = extension(21, &vec![0; 16_000]);
    let far = records(&hello(Some(&[padding, sni(&[(0, "a.example")])])), 8000);
    assert_eq!(
        FirstBytes::inspect(&far[..100]),
        FirstBytes::Incomplete { needed: 8005 }
    );
    assert_eq!(FirstBytes::inspect(&far), names(&["a.example"]));
    let padding = extension(21, &vec![0; 17_000]);
    let far = records(&hello(Some(&[padding, sni(&[(0, "a.example")])])), 8000);
    assert_eq!(FirstBytes::inspect(&far), too_long);
    let cookies = format!(
        "GET / HTTP/1.1\r\nCookie: {}\r\nHost: a",
        "x".repeat(MAX_FIRST_BYTES)
    );
    assert_eq!(FirstBytes::inspect(cookies.as_bytes()), too_long);
}

proptest! {
    #[test]
    fn any_bytes_are_inspected_without_a_panic(
        start in prop::sample::select(vec![&b""[..], &[22, 3, 1], &[0x80, 9, 1], b"GET / HTTP/1.1\r\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = [start, &bytes].concat();
        if let FirstBytes::Incomplete { needed } = FirstBytes::inspect(&bytes) {
            prop_assert!(needed > bytes.len());
        }
    }

    #[test]
    fn more_bytes_do_not_change_a_decision(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "GET", " ", "/", "http://", "a.example", "HTTP/1.1", "\r\n", "\n", "\r", "Host",
                ":", "PRI * HTTP/2.0", "\u{16}\u{3}", "\0", "\u{1}", "@", "[", "]", "CONNECT ",
            ]),
            0..20,
        ),
    ) {
        let bytes = words.concat().into_bytes();
        let mut needed_so_far = 0;
        let mut decision = None;
        for end in 0..=bytes.len() {
            match (FirstBytes::inspect(&bytes[..end]), &decision) {
                (FirstBytes::Incomplete { needed }, None) => needed_so_far = needed,
                (found, None) => {
                    prop_assert!(needed_so_far <= end);
                    decision = Some(found);
                }
                (found, Some(decided)) => prop_assert_eq!(&found, decided),
            }
        }
    }

    #[test]
    fn a_name_is_found_in_any_cut_of_records(
        name in "[a-z0-9.-]{1,60}",
        size in 1_usize..80,
        before in prop::collection::vec((1_u16.., prop::collection::vec(any::<u8>(), 0..20)), 0..5),
    ) {
        let mut extensions: Vec<_> = before
            .iter()
            .map(|(kind, data)| extension(*kind, data))
            .collect();
        extensions.push(sni(&[(0, &name)]));
        let bytes = records(&hello(Some(&extensions)), size);
        prop_assert_eq!(FirstBytes::inspect(&bytes), FirstBytes::Names(vec![name]));
    }
}
