// SPDX-License-Identifier: Apache-2.0

use tokio::net::TcpListener;

use super::*;

/// One step of a fake proxy.
#[derive(Debug, Clone)]
enum Step {
    Expect(Vec<u8>),
    Send(Vec<u8>),
}

use Step::{Expect, Send};

/// Runs a handshake with a fake proxy, which closes after its steps, and returns the outcome.
async fn shake(url: &str, host: &str, port: u16, steps: &[Step]) -> Result<TcpStream, ProxyError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let proxy = url.parse().unwrap();
    let serve = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        for step in steps {
            match step {
                Expect(bytes) => {
                    let mut received = vec![0; bytes.len()];
                    peer.read_exact(&mut received).await.unwrap();
                    assert_eq!(
                        received.escape_ascii().to_string(),
                        bytes.escape_ascii().to_string()
                    );
                }
                Send(bytes) => peer.write_all(bytes).await.unwrap(),
            }
        }
        peer.shutdown().await.unwrap();
        peer
    };
    let (result, _peer) = tokio::join!(connect_through(stream, &proxy, host, port), serve);
    result
}

/// Asserts the outcome; a success leaves `tail` to be read from the destination.
async fn check(url: &str, host: &str, port: u16, steps: &[Step], expected: Result<&[u8], &str>) {
    let outcome = shake(url, host, port, steps).await;
    match (outcome, expected) {
        (Ok(mut stream), Ok(tail)) => {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, tail, "{steps:?}");
        }
        (Err(error), Err(expected)) => assert_eq!(format!("{error:?}"), expected, "{steps:?}"),
        (outcome, expected) => panic!("{outcome:?} instead of {expected:?} for {steps:?}"),
    }
}

fn request(text: &str) -> Step {
    Expect(text.replace('\n', "\r\n").into_bytes())
}

fn send(bytes: impl AsRef<[u8]>) -> Step {
    Send(bytes.as_ref().to_vec())
}

#[tokio::test]
async fn connect_sends_the_name_and_leaves_what_follows() {
    let asked = request("CONNECT example.org:443 HTTP/1.1\nHost: example.org:443\n\n");
    for reply in [
        "HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0\r\n",
        "HTTP/1.0 200 \r\nVia: x\r\nContent-Length: 3\r\n\r\nSSH-2.0\r\n",
        "HTTP/1.1 200 OK\n\nSSH-2.0\r\n",
        "HTTP/1.1 204\r\n\r\nSSH-2.0\r\n",
    ] {
        let steps = [asked.clone(), send(reply)];
        check("http://p:1", "example.org", 443, &steps, Ok(b"SSH-2.0\r\n")).await;
    }
    let steps = [asked, send("HTTP/1.1 200 OK\r\n\r\n\r\n\r\n")];
    check("http://p:1", "example.org", 443, &steps, Ok(b"\r\n\r\n")).await;
}

#[tokio::test]
async fn connect_writes_addresses_and_credentials() {
    let ok = send("HTTP/1.1 200 OK\r\n\r\n");
    let steps = [
        request("CONNECT [2001:db8::1]:80 HTTP/1.1\nHost: [2001:db8::1]:80\n\n"),
        ok.clone(),
    ];
    check("http://p:1", "2001:db8::1", 80, &steps, Ok(b"")).await;
    let steps = [
        request(
            "CONNECT 192.0.2.1:80 HTTP/1.1\nHost: 192.0.2.1:80\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\n\n",
        ),
        ok,
    ];
    // The pair of RFC 7617 section 2.
    check(
        "http://Aladdin:open%20sesame@p:1",
        "192.0.2.1",
        80,
        &steps,
        Ok(b""),
    )
    .await;
}

#[tokio::test]
async fn reply_may_come_byte_by_byte() {
    let mut steps = vec![request("CONNECT a.org:1 HTTP/1.1\nHost: a.org:1\n\n")];
    steps.extend(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest".map(|byte| send([byte])));
    check("http://p:1", "a.org", 1, &steps, Ok(b"rest")).await;
}

#[tokio::test]
async fn statuses_become_errors() {
    for (status, expected, errno) in [
        ("407 Auth", "CredentialsNeeded", Errno::ACCESS),
        ("403 Forbidden", "Forbidden", Errno::ACCESS),
        ("502 Bad Gateway", "Unreachable(Host)", Errno::HOSTUNREACH),
        ("503 Unavailable", "Unreachable(Host)", Errno::HOSTUNREACH),
        (
            "504 Gateway Timeout",
            "Unreachable(Host)",
            Errno::HOSTUNREACH,
        ),
        ("500 Error", "Status(500)", Errno::CONNREFUSED),
        ("302 Found", "Status(302)", Errno::CONNREFUSED),
        ("100 Continue", "Status(100)", Errno::CONNREFUSED),
    ] {
        let steps = [send(format!("HTTP/1.1 {status}\r\nX: y\r\n\r\nbody"))];
        let error = shake("http://p:1", "a.org", 1, &steps).await.unwrap_err();
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(DialError::from(error).errno(), errno, "{status}");
    }
}

#[tokio::test]
async fn hostile_http_replies_end_the_handshake() {
    let endless_line = [b"HTTP/1.1 200 ".to_vec(), vec![b'x'; MAX_HEADER_BYTES]].concat();
    let endless_fields = format!(
        "HTTP/1.1 200 OK\r\n{}",
        "A: b\r\n".repeat(MAX_HEADER_BYTES / 6)
    );
    for (reply, expected) in [
        (&b""[..], "Closed"),
        (b"HTTP/1.1 200 OK\r\n", "Closed"),
        (b"HTTP/1.1 2", "Closed"),
        (&endless_line, "Malformed"),
        (endless_fields.as_bytes(), "Malformed"),
        (b"SSH-2.0-OpenSSH\r\n", "Malformed"),
        (b"\r\n\r\n", "Malformed"),
        (b"\x00\x01\x02", "Malformed"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "Malformed"),
        (b"HTTP/1.1 2000\r\n\r\n", "Malformed"),
        (b"HTTP/1.1 +20\r\n\r\n", "Malformed"),
        (b"HTTP/1.1 099 x\r\n\r\n", "Malformed"),
        (b"HTTP/2 200\r\n\r\n", "Malformed"),
        (b"HTTP/1.1200\r\n\r\n", "Malformed"),
    ] {
        check("http://p:1", "a.org", 1, &[send(reply)], Err(expected)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn silent_proxies_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for url in ["http://p:1", "socks5://p:1"] {
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let _peer = listener.accept().await.unwrap();
        let start = tokio::time::Instant::now();
        let error = connect_through(stream, &url.parse().unwrap(), "a.org", 1)
            .await
            .unwrap_err();
        assert!(matches!(error, ProxyError::TimedOut), "{error:?}");
        assert!(start.elapsed() >= PROXY_TIMEOUT);
        assert_eq!(DialError::from(error).errno(), Errno::TIMEDOUT);
    }
}

#[tokio::test]
async fn no_destination_breaks_out_of_a_request() {
    let long = "a".repeat(254);
    for host in [
        "",
        "a b",
        "a\r\nX: y",
        "a/b",
        "a@b",
        "[::1]",
        "a:1",
        "ä.org",
        long.as_str(),
    ] {
        for url in ["http://p:1", "socks5://p:1"] {
            check(url, host, 1, &[], Err("BadDestination")).await;
        }
    }
}

const GREETING: [u8; 3] = [5, 1, 0];

#[tokio::test]
async fn socks_sends_names_and_addresses() {
    for (host, address) in [
        ("a.org", &b"\x03\x05a.org"[..]),
        ("192.0.2.1", &[1, 192, 0, 2, 1]),
        (
            "2001:db8::1",
            &[4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ] {
        for bound in [
            &[1, 0, 0, 0, 0, 0, 0][..],
            &[4; 19],
            b"\x03\x02xy\0\0",
            b"\x03\0\0\0",
        ] {
            let steps = [
                send([5, 0]),
                Expect(GREETING.to_vec()),
                Expect([&[5, 1, 0], address, &[1, 187]].concat()),
                Send([&[5, 0, 0], bound, b"hello"].concat()),
            ];
            check("socks5h://p:1", host, 443, &steps, Ok(b"hello")).await;
        }
    }
}

#[tokio::test]
async fn socks_authenticates() {
    let connect = Expect(b"\x05\x01\0\x03\x05a.org\0\x01".to_vec());
    let connected = send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let offer = Expect(vec![5, 2, 0, 2]);
    let steps = [
        offer.clone(),
        send([5, 2]),
        Expect(b"\x01\x02me\x03p:w".to_vec()),
        send([1, 0]),
        connect.clone(),
        connected.clone(),
    ];
    check("socks5://me:p%3aw@p:1", "a.org", 1, &steps, Ok(b"")).await;
    // The proxy needs no credentials after all.
    let steps = [offer, send([5, 0]), connect, connected];
    check("socks5://me:pw@p:1", "a.org", 1, &steps, Ok(b"")).await;
    let steps = [send([5, 2, 1, 1])];
    check(
        "socks5://me:pw@p:1",
        "a.org",
        1,
        &steps,
        Err("CredentialsNeeded"),
    )
    .await;
}

#[tokio::test]
async fn socks_replies_become_errors() {
    for (reply, expected, errno) in [
        (1, "SocksReply(1)", Errno::CONNREFUSED),
        (2, "Forbidden", Errno::ACCESS),
        (3, "Unreachable(Network)", Errno::NETUNREACH),
        (4, "Unreachable(Host)", Errno::HOSTUNREACH),
        (5, "Refused", Errno::CONNREFUSED),
        (6, "Unreachable(Host)", Errno::HOSTUNREACH),
        (8, "SocksReply(8)", Errno::CONNREFUSED),
    ] {
        let steps = [send([5, 0]), send([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])];
        let error = shake("socks5://p:1", "a.org", 1, &steps).await.unwrap_err();
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(DialError::from(error).errno(), errno);
    }
}

#[tokio::test]
async fn hostile_socks_replies_end_the_handshake() {
    for (reply, expected) in [
        (&b""[..], "Closed"),
        (b"\x05", "Closed"),
        (b"\x04\x00", "Malformed"),
        (b"HTTP/1.1 400 Bad\r\n", "Malformed"),
        // A method that was not offered.
        (b"\x05\x02", "Malformed"),
        (b"\x05\x01", "Malformed"),
        (b"\x05\xff", "CredentialsNeeded"),
        (b"\x05\x00\x05\x00\x00", "Closed"),
        (b"\x05\x00\x05\x00\x00\x02", "Malformed"),
        (b"\x05\x00\x05\x00\x01\x01", "Malformed"),
        (b"\x05\x00\x04\x00\x00\x01", "Malformed"),
        (b"\x05\x00\x05\x00\x00\x03\xffshort", "Closed"),
        (b"\x05\x00\x05\x00\x00\x01\0\0\0", "Closed"),
    ] {
        check("socks5://p:1", "a.org", 1, &[send(reply)], Err(expected)).await;
    }
}

#[test]
fn base64_of_known_vectors() {
    // RFC 4648 section 10.
    for (bytes, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
        ("\u{ff}\u{3ff}", "w7/Pvw=="),
    ] {
        let mut text = String::new();
        base64_into(&mut text, bytes.as_bytes());
        assert_eq!(text, expected);
    }
}
