//! The airline demo's other half: two small web APIs for the gateway to stand in front of, and
//! what the demo needs made on the spot, a certificate and signed tokens.
//!
//! ```text
//! airline-services serve employees 127.0.0.1:9001 [NAME]
//! airline-services serve flights 127.0.0.1:9002
//! airline-services certificate DIRECTORY       localhost.pem and localhost.key
//! airline-services keys DIRECTORY              signing.key (private) and jwks.json (public)
//! airline-services token DIRECTORY CLAIMS      a token signed with that key, good for a day
//! ```
//!
//! Nothing here knows of the gateway: the services see only what reaches them.

mod identity;
mod records;
mod service;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: airline-services serve employees|flights ADDRESS [NAME]
       airline-services certificate DIRECTORY
       airline-services keys DIRECTORY
       airline-services token DIRECTORY CLAIMS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["serve", which, address] => serve(which, address, which),
        ["serve", which, address, name] => serve(which, address, name),
        ["certificate", directory] => identity::make_certificate(Path::new(directory)),
        ["keys", directory] => identity::make_keys(Path::new(directory)),
        ["token", directory, claims] => {
            identity::sign(Path::new(directory), claims).map(|token| println!("{token}"))
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("airline-services: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(which: &str, address: &str, name: &str) -> Result<(), String> {
    let (kind, data) = match which {
        "employees" => ("employee", include_str!("../data/employees.json")),
        "flights" => ("flight", include_str!("../data/flights.json")),
        other => return Err(format!("no service is called {other}: employees or flights")),
    };
    let address: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let records = records::Records::parse(data)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(service::run(address, service::Service::new(kind, name, records)))
}
