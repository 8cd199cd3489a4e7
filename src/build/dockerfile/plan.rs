//! Which stages are built, on what, and which wait for which.

/// The stages that the target needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In an order in which each comes after what it needs; the last is the target.
    pub stages: Vec<PlannedStage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStage {
    /// The index into [`super::ast::Dockerfile::stages`].
    pub index: usize,
    /// In lower case.
    pub name: Option<String>,
    pub base: Base,
    /// `--platform` of its FROM, expanded.
    pub platform: Option<String>,
    /// Indices of the stages whose files it reads: its base, COPY --from, RUN --mount=from.
    pub needs: Vec<usize>,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Scratch,
    /// An earlier stage, by index.
    Stage(usize),
    /// A context of `--build-context` with that name.
    Context(String),
    /// An image's reference as written.
    Image(String),
}
