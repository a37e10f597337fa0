//! The end of a world: what is unfinished ends, everything is restored, and then time passes.

use jiff::SignedDuration;

use super::gate::{Place, Weather};
use super::lives::Task;
use super::promises::Promise;
use super::world::{World, days};

impl World {
    /// Every promise is kept; what was cut off is caught up with; and what is left, once all that was promised has
    /// expired, is what the newest good snapshots need.
    pub(super) async fn end(&mut self) {
        self.check_extensions();
        for place in [Place::Vault, Place::Second] {
            self.restore_all(place).await;
        }
        self.calmly(Task::Replicate).await;
        let copied: std::collections::HashSet<_> = self.copy.keys().into_iter().collect();
        for (promise, _) in self.holding() {
            assert!(copied.contains(&promise.object), "{} has no copy", promise.object);
        }
        self.restore_all(Place::Copy).await;
        let longest = self.hosts.iter().map(|host| host.keep * 15 / 4).max().unwrap();
        self.set_now(self.now + longest + days(60));
        self.calmly(Task::Prune(Place::Vault)).await;
        self.check_nothing_stays_for_ever();
        self.restore_all(Place::Vault).await;
    }

    /// Does a chore in which nothing goes wrong.
    async fn calmly(&mut self, task: Task) {
        let skew = SignedDuration::ZERO;
        let (faults, crashes, down, page) = (0, 0, None, 1000);
        let weather = Weather { latency_ms: 10, faults, crashes, down, page, skew };
        self.begin_chore(task, weather).await;
        self.go_on().await;
    }

    /// Restores all that holds; in a copy, some of what can be seen there of it and hasn't expired.
    async fn restore_all(&self, place: Place) {
        let store = self.target(place);
        let visible: std::collections::HashSet<_> = store.keys().into_iter().collect();
        let there = |promise: &&Promise| {
            let unexpired = promise.offer.expires > self.now;
            place == Place::Vault || unexpired && visible.contains(&promise.object)
        };
        let holding: Vec<_> =
            self.holding().into_iter().map(|(promise, _)| promise).filter(there).collect();
        // Most of what lies in the copies was restored there, or will be by other seeds.
        let each = if place == Place::Vault { 1 } else { 8 };
        for promise in holding.into_iter().step_by(each) {
            self.restore(&store, promise).await;
        }
    }
}
