//! Both ways to the disk.

use core::time::Duration;
use std::process::Command;

use crate::{
    link::Over,
    node::{Setup, run, setup},
    raw::{Person, Raw, send},
};

/// Starts a program with io_uring forbidden, as container runtimes do: by a seccomp filter that answers EPERM. For
/// x86-64 and aarch64, where the system call has the same number.
const FORBID: &str = r"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
filters = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in filters))
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filters', ctypes.c_void_p)]
program = Program(len(filters), ctypes.addressof(code))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit('seccomp is not allowed: errno %d' % ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
";

/// Whether a program can be started that way here.
fn can_forbid() -> bool {
    let probe = Command::new("python3").args(["-c", FORBID, "/bin/true"]).output();
    let works = probe.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        println!("skipped: io_uring cannot be forbidden here: {probe:?}");
    }
    works
}

/// A node that starts so stores, is killed, and has everything. Its log at the end.
async fn stores(setup: Setup) -> String {
    let mut node = setup.fixed_port().start().await;
    let mut ada = Person::new("ada");
    let mut a = Raw::register(&node, Over::Tls, &mut ada).await;
    for number in 1..=50 {
        a.ask(send(number, ada.user(), "kept")).await.unwrap();
    }
    node.kill();
    node.start().await;
    let mut a = Raw::login(&node, Over::Quic, &ada).await;
    for number in 1..=50 {
        let Ok(columba_wire::v1::server_frame::Kind::Sent(sent)) = a.ask(send(number, ada.user(), "kept")).await else {
            panic!("message {number} is not known");
        };
        assert!(sent.duplicate && sent.seq == number, "{sent:?}");
    }
    node.log()
}

#[test]
fn a_node_that_is_told_to_use_threads_keeps_everything() {
    run(Duration::from_secs(120), async {
        let log = stores(setup().set("disk", "thread")).await;
        assert!(log.contains("disk driver, as configured driver=\"thread\""), "{log}");
    });
}

#[test]
fn a_node_that_may_not_use_io_uring_says_so_and_keeps_everything() {
    if !can_forbid() {
        return;
    }
    run(Duration::from_secs(120), async {
        let log = stores(setup().env("COLUMBA_DISK", "auto").wrapped(&["python3", "-c", FORBID])).await;
        assert!(log.contains("io_uring does not work here"), "{log}");
        assert!(log.contains("driver=\"thread\""), "{log}");
    });
}

#[test]
fn a_node_that_must_use_io_uring_and_may_not_does_not_start() {
    if !can_forbid() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .args(["-c", FORBID, env!("CARGO_BIN_EXE_columba"), "serve", "--listen", "127.0.0.1:0", "--disk", "uring"])
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
