//! What one container may take of the responder, so that the others have their share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Questions under way outside, each with a socket: for one container, and for all.
const FORWARDS: (usize, usize) = (256, 768);
/// Connections: for one container, and for all.
const CONNECTIONS: (usize, usize) = (32, 256);
/// Questions of one container that are looked at in a second, in the long run and in a burst. The rest is lost, as on
/// any busy network: reading it costs less than what a container can send.
const RATE: f64 = 20_000.0;
const BURST: f64 = 10_000.0;
/// Containers remembered before those at rest are forgotten.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
pub struct Limits {
    loads: HashMap<Arc<str>, Load>,
    forwards: usize,
    connections: usize,
}

#[derive(Debug)]
struct Load {
    forwards: usize,
    connections: usize,
    credit: f64,
    at: Instant,
}

impl Limits {
    fn load(&mut self, container: &Arc<str>) -> &mut Load {
        if self.loads.len() >= REMEMBERED && !self.loads.contains_key(container) {
            self.loads.retain(|_, load| load.forwards + load.connections > 0);
        }
        let new = || Load { forwards: 0, connections: 0, credit: BURST, at: Instant::now() };
        self.loads.entry(container.clone()).or_insert_with(new)
    }

    /// Whether a question that has come at `now` is to be looked at.
    pub fn takes(&mut self, container: &Arc<str>, now: Instant) -> bool {
        let load = self.load(container);
        let since = now.saturating_duration_since(load.at).as_secs_f64();
        load.credit = (load.credit + since * RATE).min(BURST);
        load.at = now;
        let takes = load.credit >= 1.0;
        load.credit -= f64::from(u8::from(takes));
        takes
    }

    /// Counts a question that is asked outside. False: there are too many.
    pub fn forward(&mut self, container: &Arc<str>) -> bool {
        let full = self.forwards >= FORWARDS.1;
        let load = self.load(container);
        if full || load.forwards >= FORWARDS.0 {
            return false;
        }
        load.forwards += 1;
        self.forwards += 1;
        true
    }

    pub fn forwarded(&mut self, container: &Arc<str>) {
        self.load(container).forwards -= 1;
        self.forwards -= 1;
    }

    /// Counts a connection. False: there are too many.
    pub fn connect(&mut self, container: &Arc<str>) -> bool {
        let full = self.connections >= CONNECTIONS.1;
        let load = self.load(container);
        if full || load.connections >= CONNECTIONS.0 {
            return false;
        }
        load.connections += 1;
        self.connections += 1;
        true
    }

    pub fn disconnected(&mut self, container: &Arc<str>) {
        self.load(container).connections -= 1;
        self.connections -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_container_cannot_take_what_is_there_for_all() {
        let (mut limits, greedy, modest) = (Limits::default(), Arc::from("greedy"), Arc::from("modest"));
        let taken = (0..10_000).filter(|_| limits.forward(&greedy)).count();
        assert_eq!(taken, FORWARDS.0);
        assert!(limits.forward(&modest));
        limits.forwarded(&greedy);
        assert!(limits.forward(&greedy) && !limits.forward(&greedy));
        let taken = (0..10_000).filter(|_| limits.connect(&greedy)).count();
        assert_eq!(taken, CONNECTIONS.0);
        assert!(limits.connect(&modest));
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let mut limits = Limits::default();
        let asks = |limits: &mut Limits, n: usize| limits.forward(&Arc::from(n.to_string()));
        assert_eq!((0..5000).filter(|n| asks(&mut limits, *n)).count(), FORWARDS.1);
    }

    #[test]
    fn who_floods_is_heard_at_a_steady_rate() {
        let (mut limits, container) = (Limits::default(), Arc::from("greedy"));
        let start = Instant::now();
        let heard = (0..100_000).filter(|_| limits.takes(&container, start)).count();
        assert_eq!(heard, BURST as usize);
        let later = start + Duration::from_millis(100);
        let heard = (0..100_000).filter(|_| limits.takes(&container, later)).count();
        assert!((1990..=2010).contains(&heard), "{heard}");
        assert!(limits.takes(&Arc::from("modest"), later));
    }

    #[test]
    fn containers_at_rest_are_forgotten() {
        let mut limits = Limits::default();
        assert!(limits.forward(&Arc::from("busy")));
        for n in 0..5000 {
            assert!(limits.takes(&Arc::from(n.to_string()), Instant::now()));
        }
        assert!(limits.loads.len() <= REMEMBERED && limits.loads.contains_key("busy"));
    }
}
