//! The functions of a query: those of <https://jmespath.org/specification.html#built-in-functions>,
//! as implemented in az's library.

/// Defines the functions: name, number of arguments, and whether more are accepted.
macro_rules! functions {
    ($($function:ident $name:literal $count:literal $more:literal,)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::cli) enum Function { $($function),+ }

        impl Function {
            const ALL: &[(Self, &'static str, usize, bool)] =
                &[$((Self::$function, $name, $count, $more)),+];
        }
    };
}

functions! {
    Abs "abs" 1 false,
    Avg "avg" 1 false,
    Ceil "ceil" 1 false,
    Contains "contains" 2 false,
    EndsWith "ends_with" 2 false,
    Floor "floor" 1 false,
    Join "join" 2 false,
    Keys "keys" 1 false,
    Length "length" 1 false,
    Map "map" 2 false,
    Max "max" 1 false,
    MaxBy "max_by" 2 false,
    Merge "merge" 1 true,
    Min "min" 1 false,
    MinBy "min_by" 2 false,
    NotNull "not_null" 1 true,
    Reverse "reverse" 1 false,
    Sort "sort" 1 false,
    SortBy "sort_by" 2 false,
    StartsWith "starts_with" 2 false,
    Sum "sum" 1 false,
    ToArray "to_array" 1 false,
    ToNumber "to_number" 1 false,
    ToString "to_string" 1 false,
    Type "type" 1 false,
    Values "values" 1 false,
}

impl Function {
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known, ..)| *known == name);
        found.map(|(function, ..)| *function).ok_or_else(|| {
            let like = |known: &str| strsim::jaro_winkler(name, known);
            let nearest = Self::ALL.iter().max_by(|a, b| like(a.1).total_cmp(&like(b.1)));
            let nearest = nearest.map(|(_, known, ..)| *known).unwrap_or_default();
            format!("there is no function {name}(); the nearest is {nearest}()")
        })
    }

    pub(super) fn described(self) -> (&'static str, usize, bool) {
        let found = Self::ALL.iter().find(|(function, ..)| *function == self);
        found.map_or(("", 0, true), |(_, name, count, more)| (name, *count, *more))
    }

    pub(super) fn check_count(self, given: usize) -> Result<(), String> {
        let (name, count, more) = self.described();
        if given == count || (more && given > count) {
            return Ok(());
        }
        let least = if more { "at least " } else { "" };
        let arguments = if count == 1 { "argument" } else { "arguments" };
        Err(format!("{name}() takes {least}{count} {arguments}, not {given}"))
    }

    /// Whether it never fails, whatever its arguments.
    pub(super) fn is_sure(self) -> bool {
        matches!(self, Self::NotNull | Self::ToArray | Self::ToNumber | Self::ToString | Self::Type)
    }
}
