//! The real gateway in a directory of its own: started with a configuration given as text, asked,
//! reloaded, stopped.
//!
//! Every address in the configuration is `127.0.0.1:0`; the ready line tells the real ones. The
//! process is killed when the value is dropped.

use crate::client::Request;
use crate::log::Log;
use crate::raw::{Answer, Connection};
use crate::{PATIENCE, eventually};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a gateway starts from: a directory with its configuration, plugins and other files.
pub struct Setup {
    binary: PathBuf,
    /// What starts the binary, if it is not started straight away.
    script: Option<PathBuf>,
    dir: TempDir,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// `binary`: `env!("CARGO_BIN_EXE_witgate")`, which cargo gives to the test alone.
    pub fn new(binary: &str) -> Setup {
        let dir = TempDir::with_prefix("witgate-test-").unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        Setup { binary: binary.into(), script: None, dir, environment: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file into the directory.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        write(&self.path(name), content.as_ref());
        self
    }

    /// Puts a component into the plugin directory, which the configuration names `plugins`.
    pub fn plugin(self, name: &str, component: &Path) -> Setup {
        install(self.dir.path(), name, &std::fs::read(component).unwrap());
        self
    }

    pub fn plugin_bytes(self, name: &str, component: &[u8]) -> Setup {
        install(self.dir.path(), name, component);
        self
    }

    /// Started by `sh` from here on, after the words `before` and with the redirections `after`.
    pub fn by_shell(mut self, before: &str, after: &str) -> Setup {
        let text = format!("#!/bin/sh\n{before}\nexec '{}' \"$@\" {after}\n", self.binary.display());
        let script = self.path("start.sh");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        self.script = Some(script);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Any subcommand in this directory, to its end.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.prepared(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Any subcommand that goes on until it is dropped.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.prepared(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::default();
        log.collect(child.stdout.take().unwrap());
        log.collect(child.stderr.take().unwrap());
        Running { child, log }
    }

    fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.script.as_ref().unwrap_or(&self.binary));
        // Compiled code is shared by all tests of one build, so that each plugin compiles once.
        let cache = self.binary.parent().unwrap().join("witgate-test-cache");
        command.args(arguments).current_dir(self.dir.path()).env("XDG_CACHE_HOME", cache);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts and waits for the ready line; panics when it does not come.
    pub fn start(self, config: &str) -> Gateway {
        self.try_start(config).unwrap_or_else(|refused| {
            panic!(
                "the gateway did not start ({:?}):\n{}\nconfiguration:\n{config}",
                refused.status, refused.text
            )
        })
    }

    pub fn try_start(self, config: &str) -> Result<Gateway, Refused> {
        write(&self.path("witgate.yaml"), config.as_bytes());
        self.launch(&["run", "-c", "witgate.yaml"])
    }

    /// Starts with these arguments instead of `run -c witgate.yaml`.
    pub fn launch(self, arguments: &[&str]) -> Result<Gateway, Refused> {
        let mut child = self
            .prepared(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, all) = (Log::default(), Log::default());
        // Standard output carries the access log; the ready line may come on either.
        let tee = Tee {
            from: child.stdout.take().unwrap(),
            pending: Vec::new(),
            to: [stdout.clone(), all.clone()],
        };
        tee.spawn();
        all.collect(child.stderr.take().unwrap());

        let ready = all.find_from(
            0,
            Instant::now() + 3 * PATIENCE,
            |line| line.contains("witgate ready:"),
            || child.try_wait().is_ok_and(|status| status.is_some()),
        );
        let Some(ready) = ready else {
            let _ = child.kill();
            let status = child.wait().unwrap();
            all.wait_for_end();
            return Err(Refused { status, text: all.text() });
        };
        Ok(Gateway { child, addresses: addresses(&ready), stdout, all, setup: self })
    }
}

/// A subcommand that runs, and ends when this is dropped.
pub struct Running {
    child: Child,
    log: Log,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        ended(&mut self.child, &self.log)
    }

    /// What it has written.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that did not start.
pub struct Refused {
    pub status: ExitStatus,
    /// All that it wrote.
    pub text: String,
}

pub struct Gateway {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    stdout: Log,
    /// Standard error and standard output.
    all: Log,
    setup: Setup,
}

impl Gateway {
    /// The address that a listener bound; `admin` is the admin port's.
    pub fn address(&self, listener: &str) -> SocketAddr {
        *self
            .addresses
            .get(listener)
            .unwrap_or_else(|| panic!("no listener {listener:?} in {:?}", self.addresses))
    }

    pub fn public(&self) -> SocketAddr {
        self.address("public")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Any subcommand in the gateway's directory, to its end.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.setup.command(arguments)
    }

    pub fn log(&self) -> &Log {
        &self.all
    }

    pub fn send(&self, request: Request) -> Answer {
        request.send(self.public())
    }

    pub fn get(&self, target: &str) -> Answer {
        self.send(Request::get(target))
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.public())
    }

    pub fn admin(&self, target: &str) -> Answer {
        Request::get(target).send(self.address("admin"))
    }

    /// The value of a metric, all series whose line starts so added; `None` where there is none.
    pub fn metric(&self, start: &str) -> Option<f64> {
        let page = self.admin("/metrics").text();
        let lines = page.lines().filter(|line| line.starts_with(start));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Access-log entries with this path, as they stand now.
    pub fn access_log(&self, path: &str) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines();
        let entries = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        entries.filter(|entry| entry["path"] == path).collect()
    }

    /// Waits for the first access-log entry with this path.
    pub fn logged(&self, path: &str) -> serde_json::Value {
        eventually(&format!("an access-log entry for {path}"), || !self.access_log(path).is_empty());
        self.access_log(path).remove(0)
    }

    /// Writes the configuration as careful editors do: a new file that takes the old one's name.
    pub fn write_config(&self, config: &str) {
        write(&self.path("witgate.yaml"), config.as_bytes());
    }

    pub fn write_file(&self, name: &str, content: impl AsRef<[u8]>) {
        write(&self.path(name), content.as_ref());
    }

    /// Adds or replaces a component in the plugin directory.
    pub fn install(&self, name: &str, component: &[u8]) {
        install(self.setup.dir.path(), name, component);
    }

    pub fn uninstall(&self, name: &str) {
        std::fs::remove_file(self.path("plugins").join(format!("{name}.wasm"))).unwrap();
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Changes the configuration, asks for a reload and waits until one went well. The watcher
    /// may reload a second time for the same change; ask for the effect, not for a count.
    pub fn reload(&self, config: &str) -> String {
        let mark = self.all.mark();
        self.write_config(config);
        self.signal("HUP");
        self.all.wait_for(mark, "reload ok")
    }

    /// Changes the configuration and waits until it was refused.
    pub fn reload_refused(&self, config: &str) -> String {
        let mark = self.all.mark();
        self.write_config(config);
        self.signal("HUP");
        self.all.wait_for(mark, "reload refused")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// SIGTERM; does not wait.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for the end.
    pub fn wait(mut self) -> ExitStatus {
        ended(&mut self.child, &self.all)
    }

    pub fn stop(self) -> ExitStatus {
        self.terminate();
        self.wait()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.all.lines();
            let last = lines.len().saturating_sub(40);
            eprintln!("the gateway's last lines:\n{}", lines[last..].join("\n"));
        }
    }
}

/// Sends a process a signal: `TERM`.
pub fn signal(pid: u32, name: &str) {
    let command = format!("kill -{name} {pid}");
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
}

/// Processes that this one has started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

fn ended(child: &mut Child, log: &Log) -> ExitStatus {
    let end = Instant::now() + 3 * PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "it does not end; its log:\n{}", log.text());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `witgate ready: public=127.0.0.1:8080 admin=127.0.0.1:9901`
fn addresses(ready: &str) -> BTreeMap<String, SocketAddr> {
    let (_, list) = ready.split_once("witgate ready:").expect("found by that");
    let pairs = list.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, address)| (name.to_string(), address.parse().unwrap())).collect()
}

/// By a rename, so that nobody reads half of it.
fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("new~");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn install(dir: &Path, name: &str, component: &[u8]) {
    write(&dir.join("plugins").join(format!("{name}.wasm")), component);
}

/// Copies one pipe into two logs.
struct Tee<R> {
    from: R,
    pending: Vec<u8>,
    to: [Log; 2],
}

impl<R: std::io::Read + Send + 'static> Tee<R> {
    fn spawn(mut self) {
        let (a, b) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        self.to[0].collect(a.0);
        self.to[1].collect(b.0);
        let mut writers = [a.1, b.1];
        std::thread::spawn(move || {
            self.pending.resize(64 << 10, 0);
            while let Ok(read @ 1..) = self.from.read(&mut self.pending) {
                for writer in &mut writers {
                    let _ = std::io::Write::write_all(writer, &self.pending[..read]);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_every_listener() {
        let found =
            addresses("INFO witgate ready: public=127.0.0.1:8080 public-tls=127.0.0.1:8443 admin=[::1]:9901");
        assert_eq!(found.len(), 3);
        assert_eq!(found["public-tls"].port(), 8443);
        assert_eq!(found["admin"].port(), 9901);
    }
}
