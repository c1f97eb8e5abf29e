//! Which windows a request asks for: the parameters `grain` and `minutes`.

use crate::amounts::documented;
use crate::params::{self, BadParameter, Choice, Parameters};
use std::ops::RangeInclusive;
use tidemark_model::Grain;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// Minutes of a day.
const DAY: u32 = Grain::Day.minutes();
/// The most that `minutes` can be.
const MOST: u32 = 366 * DAY;

/// The parameter `grain`: how long the windows are.
pub struct Length;

/// The parameters `grain` and `minutes`: how long the windows are, and how far they reach back. With neither, rows of the last `DEFAULT`
/// minutes are asked for.
pub struct Recent<const DEFAULT: u32>;

impl Length {
    /// A minute if nothing is said.
    pub fn read(parameters: &Parameters<'_>) -> Result<Grain, BadParameter> {
        parameters.choice("grain", Grain::Minute)
    }

    /// What an answer tells of it. Answers about minutes are what they were before there was anything else.
    pub fn told(grain: Grain) -> Option<&'static str> {
        (grain != Grain::Minute).then(|| grain.as_str())
    }
}

impl<const DEFAULT: u32> Recent<DEFAULT> {
    /// How long the windows are, and in how many minutes before the store's clock they start.
    pub fn read(parameters: &Parameters<'_>) -> Result<(Grain, u32), BadParameter> {
        let grain = Length::read(parameters)?;
        let (allowed, default) = Self::minutes(grain);
        Ok((grain, parameters.integer("minutes", allowed, default)?))
    }

    /// What `minutes` can be, and is if it is not given. In that time one window starts at least.
    fn minutes(grain: Grain) -> (RangeInclusive<u32>, u32) {
        let (most, default) = match grain {
            Grain::Minute => (DAY, DEFAULT),
            Grain::Hour => (31 * DAY, DAY),
            Grain::Day => (MOST, 30 * DAY),
        };
        (grain.minutes()..=most, default)
    }
}

impl IntoParams for Length {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let words = "The windows' length: minute (default), hour or day (UTC). Hours and days are made of closed minutes";
        vec![documented("grain", params::text(), words)]
    }
}

impl<const DEFAULT: u32> IntoParams for Recent<DEFAULT> {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let allowed = Grain::ALL.map(|grain| {
            let (allowed, default) = Self::minutes(grain);
            format!("{} to {} ({default}) with grain {}", allowed.start(), allowed.end(), grain.as_str())
        });
        let words = format!("Windows that start at most so many minutes ago, and later ones: {}", allowed.join(", "));
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MOST));
        [Length::into_params(parameter_in), vec![documented("minutes", number, &words)]].concat()
    }
}
