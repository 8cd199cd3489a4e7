//! `--filter label=…`, the same for containers, images and volumes.

/// What is asked of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    key: String,
    value: Option<String>,
    wanted: bool,
}

impl LabelFilter {
    /// Of `label=KEY[=VALUE]`, or with `wanted` false `label!=KEY[=VALUE]`.
    pub fn new(text: &str, wanted: bool) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()), wanted },
            None => Self { key: text.to_owned(), value: None, wanted },
        }
    }
}

/// Whether all of them hold.
pub fn all_fit<'l>(filters: &[LabelFilter], value_of: impl Fn(&str) -> Option<&'l str>) -> bool {
    filters.iter().all(|filter| {
        let found = value_of(&filter.key);
        let fits = found.is_some_and(|found| filter.value.as_deref().is_none_or(|value| value == found));
        fits == filter.wanted
    })
}
