//! What a mold is told that wants to know.

use super::{Action, Table};
use crate::link::News;
use crate::mold::{Mold, Phase};

impl Table {
    /// Whether the generation's mold wants to know, and can be told.
    pub(super) fn wants_news(&self, id: u32) -> bool {
        self.generation(id).is_some_and(|generation| {
            generation.settings.news
                && generation.phase != Phase::Leaving
                && matches!(generation.mold, Mold::Alive(_))
        })
    }

    pub(super) fn tell(&mut self, id: Option<u32>, news: News) {
        if let Some(generation) = id.filter(|id| self.wants_news(*id)) {
            self.push(Action::News { generation, news });
        }
    }
}
