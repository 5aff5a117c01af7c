//! A pool in a world that fails at random, by a seed and a clock that goes on by hand.
//!
//! Endpoints answer, refuse, hang up, break off, talk nonsense and go down; requests come one by one
//! or at once; `judge` says after each step whether all that was seen may be so. Everything runs on
//! one thread, and nothing waits for time. A seed that fails is named: `WITGATE_SEED=N` runs that one
//! alone, `WITGATE_TRIES=N` more of them. Response and idle time-outs are not in it: they go by the
//! runtime's timers.

mod judge;
mod sites;

use super::*;
use judge::Judge;
use sites::{Act, Payload, Plan, Shape, Site, World, text_of};

const SEEDS: u64 = 120;
const STEPS: u64 = 60;
/// Turns of the runtime within which whatever is under way has come to rest.
const TURNS: usize = 100_000;
const NONSENSE: [&str; 4] = [
    "what is this?\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
];

/// The numbers that follow from a seed.
struct Draws(Clock);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        u64::from_ne_bytes(bytes) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a request ended.
#[derive(Debug)]
struct Ending {
    number: usize,
    attempts: u32,
    result: Result<Answer, Failure>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    serial: usize,
    /// `None`: dropped unread. An error: it broke off.
    body: Option<Result<String, ()>>,
}

struct Simulation {
    draws: Draws,
    clock: Clock,
    world: Rc<World>,
    sites: Vec<Rc<Site>>,
    pool: Rc<Pool>,
    judge: Judge,
    /// Requests so far.
    requests: usize,
    /// In per cent, of the tries.
    trouble: u64,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut draws = Draws(Clock::seeded(Duration::ZERO, seed));
        let world = Rc::new(World::default());
        let sites: Vec<_> = (0..=draws.below(5) as usize).map(|index| Site::new(index, &world)).collect();
        let addresses: Vec<_> = sites.iter().map(|site| site.address).collect();
        let mut settings = settings(&addresses);
        for endpoint in &mut settings.endpoints {
            endpoint.weight = draws.pick(&[1, 1, 1, 2, 3, 0]);
        }
        settings.balance = draws.pick(&[Balance::RoundRobin, Balance::LeastRequest, Balance::Random]);
        settings.retry = RetrySettings {
            attempts: draws.pick(&[0, 1, 1, 2, 3, 5]),
            connect_failure: draws.chance(80),
            statuses: if draws.chance(60) { vec![503] } else { Vec::new() },
            budget_percent: draws.pick(&[0, 5, 20, 20, 100]),
        };
        settings.ejection = draws.chance(80).then(|| EjectionSettings {
            failures: draws.pick(&[1, 2, 3, 5]),
            period: Duration::from_millis(draws.pick(&[1, 500, 10_000, 60_000])),
            max_percent: draws.pick(&[0, 10, 50, 100]),
        });
        settings.idle_connections = draws.pick(&[0, 1, 2, 8]);
        // For a machine that is busy: nothing here may run out of time.
        settings.timeouts.connect = PATIENCE;
        settings.timeouts.response = Duration::ZERO;
        let clock = Clock::manual(Duration::ZERO);
        let judge = Judge::new(&settings);
        let pool = Pool::seeded(Upstream::new(settings).expect("settings"), clock.clone(), seed);
        let trouble = draws.pick(&[0, 10, 30, 60, 95]);
        Simulation { draws, clock, world, sites, pool, judge, requests: 0, trouble }
    }

    async fn step(&mut self) {
        let site = self.sites[self.draws.below(self.sites.len() as u64) as usize].clone();
        match self.draws.below(20) {
            0..10 => {
                let plan = self.plan();
                self.send(vec![plan]).await;
            }
            10 => {
                let plans = (0..2 + self.draws.below(12)).map(|_| self.plan()).collect();
                self.send(plans).await;
            }
            11 => site.fall().await,
            12 | 13 => site.rise(),
            // Whether the pool hears of it before the next request is a race; both are tried.
            14 => site.close_idle(),
            15 => {
                site.close_idle();
                self.rest().await;
            }
            16 => site.hang_ups.set(site.hang_ups.get() + 1 + self.draws.below(2)),
            17 => {
                let index = self.draws.below(self.sites.len() as u64) as usize;
                let healthy = self.draws.chance(70);
                self.pool.upstream.endpoints[index].set_healthy(healthy);
                self.judge.set_healthy(index, healthy);
            }
            _ => {
                let most = self.draws.pick(&[10, 1_000, 20_000, 600_000]);
                self.clock.advance(Duration::from_millis(1 + self.draws.below(most)));
            }
        }
        self.judge.look(&self.pool, self.clock.monotonic_nanos());
    }

    fn plan(&mut self) -> Plan {
        let method = self.draws.pick(&["GET", "GET", "PUT", "POST", "POST"]);
        let number = self.draws.below(1 << 40);
        let payload = match self.draws.below(4) {
            0 => Payload::Full(format!("payload {number}").repeat(1 + self.draws.below(50) as usize)),
            1 => {
                Payload::Stream((0..1 + self.draws.below(3)).map(|part| format!("{number}-{part}")).collect())
            }
            _ => Payload::None,
        };
        let shapes = [
            Shape::Plain,
            Shape::Plain,
            Shape::Chunked,
            Shape::Late,
            Shape::Large,
            Shape::Closing,
            Shape::Leaving,
        ];
        let acts = (0..8)
            .map(|_| {
                let shape = self.draws.pick(&shapes);
                if !self.draws.chance(self.trouble) {
                    return Act::Answer(200, shape);
                }
                match self.draws.below(8) {
                    0..4 => Act::Answer(503, shape),
                    4 => Act::Cut,
                    5 => Act::Close,
                    6 => Act::Nonsense(self.draws.pick(&NONSENSE)),
                    _ => Act::Short,
                }
            })
            .collect();
        Plan {
            method: Method::from_bytes(method.as_bytes()).expect("method"),
            payload,
            acts,
            drops: self.draws.chance(5),
        }
    }

    /// Sends requests, all at once, and judges them.
    async fn send(&mut self, plans: Vec<Plan>) -> Vec<Ending> {
        let first = self.requests;
        self.requests += plans.len();
        let seen = self.world.log.borrow().len();
        let hung_up = || self.sites.iter().map(|site| site.hung_up.get()).sum::<u64>();
        let hung_up_before = hung_up();
        let mut tasks = Vec::new();
        for (number, plan) in (first..).zip(plans) {
            self.world.plans.borrow_mut().insert(number, plan.clone());
            tasks.push(tokio::task::spawn_local(send_one(self.pool.clone(), number, plan)));
        }
        let mut endings = Vec::new();
        for task in tasks {
            endings.push(task.await.expect("no panic in a client"));
        }
        assert_eq!(self.pool.upstream().active(), 0, "requests are counted that are over");
        self.rest().await;
        let complaints = self.world.complaints.take();
        assert!(complaints.is_empty(), "{complaints:?}");
        let log = self.world.log.borrow()[seen..].to_vec();
        let up: Vec<_> = self.sites.iter().map(|site| site.is_up()).collect();
        let plans = self.world.plans.borrow();
        self.judge.step(&judge::Step {
            pool: &self.pool,
            now: self.clock.monotonic_nanos(),
            endings: &endings,
            plans: &plans,
            log: &log,
            up: &up,
            hung_up: hung_up() - hung_up_before,
        });
        endings
    }

    /// Lets all tasks run until nothing is under way, and looks what stays.
    async fn rest(&self) {
        let counters = self.pool.upstream().counters();
        let at_rest = || {
            let accepted: u64 = self.sites.iter().map(|site| site.accepted.get()).sum();
            count(&counters.connects) == accepted + count(&counters.connect_failures)
                && self
                    .sites
                    .iter()
                    .all(|site| site.open() <= self.pool.upstream().settings().idle_connections)
        };
        // A few turns in any case: what was closed is to be heard of.
        for turn in 0..TURNS {
            if turn > 20 && at_rest() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let open: Vec<_> = self.sites.iter().map(|site| (site.accepted.get(), site.open())).collect();
        panic!("accepted and open: {open:?}, but {counters:?}");
    }

    /// All are well again, and everybody's time is over: each has its share, and nothing is lost.
    async fn recover(&mut self) {
        for (index, site) in self.sites.iter().enumerate() {
            site.rise();
            site.hang_ups.set(0);
            // What a check says of an endpoint that it has found well all along changes nothing.
            if !self.pool.upstream.endpoints[index].is_healthy() {
                self.pool.upstream.endpoints[index].set_healthy(true);
                self.judge.set_healthy(index, true);
            }
        }
        self.rest().await;
        let pause = self.judge.last_ejection_ends().saturating_sub(self.clock.monotonic_nanos());
        self.clock.advance(Duration::from_nanos(pause));
        self.judge.look(&self.pool, self.clock.monotonic_nanos());
        let owed: Vec<_> = self.judge.weighty().collect();
        let mut served = vec![false; self.sites.len()];
        for _ in 0..500 {
            if owed.iter().all(|index| served[*index]) {
                return;
            }
            let plan = Plan { method: Method::POST, payload: Payload::None, acts: Vec::new(), drops: false };
            let seen = self.world.log.borrow().len();
            let endings = self.send(vec![plan]).await;
            assert!(
                endings.iter().all(|ending| ending.result.is_ok() && ending.attempts == 1),
                "{endings:?}"
            );
            self.world.log.borrow()[seen..].iter().for_each(|delivery| served[delivery.site] = true);
        }
        panic!("of {owed:?} some get nothing though all is well: {served:?}");
    }
}

async fn send_one(pool: Rc<Pool>, number: usize, plan: Plan) -> Ending {
    let body = match plan.payload {
        Payload::None => Body::Empty,
        Payload::Full(text) => Body::full(text),
        Payload::Stream(parts) => {
            // It streams, so nobody can send it twice.
            let (sender, body) = channel();
            parts.into_iter().for_each(|part| sender.send(Ok(part)).expect("open"));
            body
        }
    };
    let mut request = request(plan.method, &format!("/{number}"), body);
    request.headers_mut().insert("x-number", HeaderValue::from(number));
    let mut call = Call::default();
    let result = match pool.send(request, &mut call).await {
        Err(failure) => Err(failure),
        Ok(response) => {
            let status = response.status().as_u16();
            let serial =
                response.headers().get("x-serial").and_then(|serial| serial.to_str().ok()?.parse().ok());
            let body = if plan.drops {
                drop(response);
                None
            } else {
                let (_, body) = read(response).await;
                Some(body.map(|body| String::from_utf8_lossy(&body).into_owned()).map_err(drop))
            };
            Ok(Answer { status, serial: serial.expect("a number that only endpoints give"), body })
        }
    };
    Ending { number, attempts: call.attempts, result }
}

/// Names the seed when it fails.
struct Named(u64, Cell<u64>);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("WITGATE_SEED={} fails in step {}", self.0, self.1.get());
        }
    }
}

#[test]
fn whatever_happens_the_pool_keeps_its_promises() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("WITGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WITGATE_TRIES").unwrap_or(SEEDS),
    };
    for seed in seeds {
        run(async {
            let named = Named(seed, Cell::new(0));
            let mut simulation = Simulation::new(seed);
            for step in 0..STEPS {
                named.1.set(step);
                simulation.step().await;
            }
            named.1.set(STEPS);
            simulation.recover().await;
        });
    }
}
