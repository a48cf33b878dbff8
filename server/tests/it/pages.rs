//! The pages for operators and their programs.

use core::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    link::{Over, tls},
    node::{run, setup, soon},
    raw::{Person, Raw, send},
};

#[test]
fn an_operator_sees_whether_the_node_lives_is_ready_and_what_it_does() {
    run(Duration::from_secs(120), async {
        let node = setup().cores(2).start().await;
        assert_eq!(node.page("/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(node.page("/readyz").await, (200, "ready\n".to_owned()));
        assert_eq!(node.page("/").await.0, 200);
        assert_eq!(node.page("/v1/other").await.0, 404);
        assert_eq!(node.page("/v1/ws").await.0, 426, "a browser's address bar is no WebSocket");

        let before = node.metrics().await;
        let mut ada = Person::new("ada");
        let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
        for number in 1..=10 {
            a.ask(send(number, ada.user(), "counted")).await.unwrap();
        }
        a.ask(send(10, ada.user(), "counted")).await.unwrap();
        let after = node.metrics().await;
        for (name, grown) in [
            ("sends_total", 11),
            ("sent_total", 11),
            ("duplicates_total", 1),
            ("registrations_total", 1),
            ("logins_total", 1),
            ("websockets_total", 1),
            ("sessions_open", 1),
        ] {
            assert_eq!(after.since(&before, name), grown, "{name}");
        }
        assert!(after.get("commit_us_count") > 0 && after.get("commit_us_sum") > 0);

        // As Prometheus reads it: every sample has a type, every histogram ends with all.
        let (_, text) = node.page("/metrics").await;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let has_type = [name, base].iter().any(|name| text.contains(&format!("# TYPE {name} ")));
            assert!(has_type && line.contains("{core=\""), "{line}");
        }
        assert!(text.contains("columba_commit_us_bucket{core=\"1\",le=\"+Inf\"} "));

        // Over TLS the same, on a connection that is kept; what is no GET is refused.
        let (mut socket, _) = tls(&node).await;
        let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        socket.write_all(get.repeat(2).as_bytes()).await.unwrap();
        socket
            .write_all(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n123456789")
            .await
            .unwrap();
        socket.flush().await.unwrap();
        let mut text = Vec::new();
        let _ = soon("three answers and the end", socket.read_to_end(&mut text)).await;
        let text = String::from_utf8(text).unwrap();
        assert_eq!((text.matches("HTTP/1.1 200").count(), text.matches("HTTP/1.1 405").count()), (2, 1), "{text}");
    });
}
