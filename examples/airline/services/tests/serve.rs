//! The services as processes: what they answer, and that they end when told to.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(which: &str) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_airline-services"))
            .args(["serve", which, "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, address) = line.trim().split_once("ready: ").unwrap();
        Running { child, address: address.to_string() }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-User: anna\r\nConnection: close\r\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn employees_are_listed_found_and_added() {
    let service = Running::start("employees");
    assert!(service.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(service.get("/api/employee").contains("Amelia Brandt"));
    assert!(service.get("/api/employee/2").contains("Jonas Okafor"));
    assert!(service.get("/api/employee?base=OSL").contains("Ingrid"));
    assert!(service.get("/api/employee/99").starts_with("HTTP/1.1 404"));
    assert!(service.get("/api/employees").starts_with("HTTP/1.1 404"));
    assert!(service.get("/api/employee/whoami").contains(r#""x-user":"anna""#));
    let body = r#"{"name":"New"}"#;
    let post = |body: &str| {
        let length = body.len();
        let head = format!(
            "POST /api/employee HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n"
        );
        service.ask(&format!("{head}\r\n{body}"))
    };
    assert!(post(body).starts_with("HTTP/1.1 201"));
    assert!(service.get("/api/employee/6").contains("New"));
    assert!(post("not json").starts_with("HTTP/1.1 400"));
    assert!(post("[]").starts_with("HTTP/1.1 400"));
}

#[test]
fn flights_end_when_told_to() {
    let mut service = Running::start("flights");
    assert!(service.get("/api/flight/1001").contains("D-AIBC"));
    // A connection that idles does not keep it.
    let _idle = TcpStream::connect(&service.address).unwrap();
    let kill = format!("kill -TERM {}", service.child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert!(service.child.wait().unwrap().success());
}
