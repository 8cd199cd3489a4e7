//! Names and values in the order in which they were set first.

use std::collections::HashMap;

#[derive(Debug, Clone, Default)]
pub struct Variables {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
    /// Bytes of names and values.
    size: usize,
}

impl Variables {
    pub fn set(&mut self, name: &str, value: &str) {
        self.size += value.len();
        match self.places.get(name) {
            Some(&place) => {
                let old = &mut self.list[place].1;
                self.size -= old.len();
                value.clone_into(old);
            }
            None => {
                self.size += name.len();
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|&place| self.list[place].1.as_str())
    }

    pub fn list(&self) -> &[(String, String)] {
        &self.list
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Bytes of names and values.
    pub fn size(&self) -> usize {
        self.size
    }
}
