//! The demo, as `make run` starts it, tried by its own `try.sh`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use witgate_test_support::log::Log;
use witgate_test_support::{PATIENCE, guests};

#[test]
fn every_command_of_the_demo_does_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir = tempfile::TempDir::with_prefix("witgate-airline-").unwrap();
    // Asked for together, so that they differ; free again when the demo binds them.
    let sockets: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<_> =
        sockets.iter().map(|socket| socket.local_addr().unwrap().port().to_string()).collect();
    drop(sockets);
    let names = ["PORT", "TLS_PORT", "ADMIN_PORT", "EMPLOYEES_PORT", "FLIGHTS_PORT"];

    let mut demo = Command::new(root.join("examples/airline/start.sh"));
    demo.current_dir(root)
        .envs(names.iter().zip(&ports))
        // What the tests have built already, instead of a release build.
        .env("WITGATE", env!("CARGO_BIN_EXE_witgate"))
        .env("AIRLINE_SERVICES", services(root))
        .env("AIRLINE_POLICY", guests::airline_policy())
        .env("AIRLINE_STATE", dir.path())
        .env(
            "XDG_CACHE_HOME",
            Path::new(env!("CARGO_BIN_EXE_witgate")).parent().unwrap().join("witgate-test-cache"),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut demo = Demo(demo.spawn().unwrap());
    let log = Log::default();
    log.collect(demo.0.stdout.take().unwrap());
    log.collect(demo.0.stderr.take().unwrap());
    let ready = log.find_from(
        0,
        Instant::now() + 3 * PATIENCE,
        |line| line.contains("try.sh"),
        || demo.0.try_wait().is_ok_and(|status| status.is_some()),
    );
    assert!(ready.is_some(), "the demo did not start:\n{}", log.text());

    let tried = Command::new(root.join("examples/airline/try.sh"))
        .current_dir(root)
        .envs(names.iter().zip(&ports))
        .env("AIRLINE_STATE", dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&tried.stdout);
    assert!(
        tried.status.success(),
        "{told}\n{}\nthe demo:\n{}",
        String::from_utf8_lossy(&tried.stderr),
        log.text()
    );

    demo.end();
    assert!(TcpListener::bind(format!("127.0.0.1:{}", ports[0])).is_ok(), "the gateway is still there");
    assert!(TcpListener::bind(format!("127.0.0.1:{}", ports[3])).is_ok(), "a service is still there");
}

/// The demo's services, built with the profile of the tests. Of the whole workspace, so that crates have
/// the features that they were built with already.
fn services(root: &Path) -> PathBuf {
    let directory = Path::new(env!("CARGO_BIN_EXE_witgate")).parent().unwrap();
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "--workspace", "--bin", "airline-services", "--target-dir"])
        .arg(directory.parent().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    directory.join("airline-services")
}

struct Demo(std::process::Child);

impl Demo {
    /// As Ctrl-C does, and waits until all is gone.
    fn end(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -INT {}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.end();
        }
    }
}
