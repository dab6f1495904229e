//! The load generator: log-ins and checks, in a closed loop (each client asks again when it has its answer) or in an open
//! one (a request is due at fixed times, whether or not the ones before it are answered). Prints `name value` lines.
//!
//! In the open loop times count from the moment when a request was due, so that a server that stalls can't hide it by
//! keeping the generator from asking. In the closed loop they count from the sending.

mod http;
mod refusals;
mod report;
mod rounds;
mod start;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::http::{Connection, Request};
use crate::rounds::Load;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Log in again and again.
    Login {
        #[command(flatten)]
        user: User,
        /// The clients log in as NAME-0, NAME-1 and so on up to this number, in turn; without it, as NAME.
        #[arg(long)]
        users: Option<usize>,
        #[command(flatten)]
        how: How,
    },
    /// Check one token again and again.
    Check {
        #[arg(long)]
        token: String,
        #[command(flatten)]
        how: How,
    },
    /// Log in in vain, for different reasons in turn, and print the median time of each.
    Refusals {
        #[arg(long)]
        addr: SocketAddr,
        /// Logins of each kind.
        #[arg(long, default_value_t = 300)]
        samples: usize,
        /// Whom to try with a wrong password: one username for each kind.
        #[arg(required = true)]
        usernames: Vec<String>,
        #[arg(long, default_value = "another-password-for-measuring")]
        password: String,
    },
    /// Log in and print the token.
    SignIn {
        #[arg(long)]
        addr: SocketAddr,
        #[command(flatten)]
        user: User,
        /// How often; each token is a line.
        #[arg(long, default_value_t = 1)]
        count: usize,
        /// The program that logs in.
        #[arg(long)]
        user_agent: Option<String>,
        /// The address that a proxy would tell of.
        #[arg(long)]
        client: Option<IpAddr>,
    },
    /// Get a page of text and print it.
    Get {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        path: String,
    },
    /// Wait until a server answers.
    Wait {
        #[arg(long)]
        addr: SocketAddr,
        /// Until this is answered with 200. Without it, any answer will do.
        #[arg(long)]
        path: Option<String>,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
    },
    /// Start a program several times and print how long it takes until it accepts a connection and until it answers.
    Start {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long, default_value_t = 5)]
        runs: usize,
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

#[derive(Args)]
struct User {
    #[arg(long, default_value = "bench")]
    username: String,
    #[arg(long, default_value = "a-password-for-measuring")]
    password: String,
}

#[derive(Args)]
struct How {
    #[arg(long)]
    addr: SocketAddr,
    /// Connections, each used by one client.
    #[arg(long, alias = "connections", default_value_t = 8)]
    clients: usize,
    /// The length of the run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Requests per second. Makes it an open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Stop after this many requests, however long it takes. For the closed loop.
    #[arg(long, conflicts_with = "rate")]
    count: Option<usize>,
    /// Ask again at once after a 503. Without it, a client waits as long as Retry-After says. For the closed loop.
    #[arg(long, conflicts_with = "rate")]
    impatient: bool,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Login { user, users, how } => {
            let requests = match users {
                None => vec![Request::login(&user.username, &user.password)],
                Some(users) => (0..users)
                    .map(|n| Request::login(&format!("{}-{n}", user.username), &user.password))
                    .collect(),
            };
            run(requests, &how)
        }
        Command::Check { token, how } => run(vec![Request::check(&token)], &how),
        Command::Refusals {
            addr,
            samples,
            usernames,
            password,
        } => {
            let pairs = usernames.into_iter().map(|name| (name, password.clone()));
            refusals::measure(addr, samples, &pairs.collect::<Vec<_>>())
        }
        Command::SignIn {
            addr,
            user,
            count,
            user_agent,
            client,
        } => {
            let header = |name, value: Option<String>| {
                value.map_or_else(String::new, |value| format!("{name}: {value}\r\n"))
            };
            let device = [
                header("user-agent", user_agent),
                header("x-forwarded-for", client.map(|client| client.to_string())),
            ];
            let request = Request::login_from(&device.concat(), &user.username, &user.password);
            let mut connection = Connection::new(addr);
            for _ in 0..count {
                println!("{}", sign_in(&mut connection, &request)?);
            }
            Ok(())
        }
        Command::Get { addr, path } => {
            let answer = Connection::new(addr).exchange(&Request::get(&path))?;
            if answer.status != 200 {
                return Err(format!("{path} was answered with {}", answer.status).into());
            }
            print!("{}", String::from_utf8(answer.body)?);
            Ok(())
        }
        Command::Wait {
            addr,
            path,
            seconds,
        } => {
            let limit = Duration::from_secs_f64(seconds);
            match path {
                None => start::wait(addr, limit),
                Some(path) => start::wait_for_ok(addr, &path, limit),
            }
        }
        Command::Start {
            addr,
            runs,
            program,
        } => start::measure(addr, runs, &program),
    }
}

fn run(requests: Vec<Request>, how: &How) -> Result<()> {
    let load = Load {
        addr: how.addr,
        requests,
        clients: how.clients,
        length: Duration::from_secs_f64(how.seconds),
    };
    let report = match (how.rate, how.count) {
        (Some(rate), _) => load.open(rate)?,
        (None, count) => load.closed(count, how.impatient)?,
    };
    print!("{report}");
    Ok(())
}

fn sign_in(connection: &mut Connection, request: &Request) -> Result<String> {
    let answer = connection.exchange(request)?;
    if answer.status != 200 {
        return Err(format!("the log-in was answered with {}", answer.status).into());
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let token = body.get("access_token").and_then(serde_json::Value::as_str);
    Ok(token.ok_or("the answer has no access_token")?.to_owned())
}
