//! Switches for odd, undocumented or faulty behaviour of the Web API about people.

use serde::{Deserialize, Serialize};

/// The type of a row's `PrimaryKey`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryKeyForm {
    /// `"1"`, as in real answers.
    #[default]
    Text,
    /// `1`, as in generated samples.
    Number,
    /// Alternating types in one page.
    Mixed,
}

/// A replacement in responses, for undocumented forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The path of the call, such as `api/v1/User`.
    pub path: String,
    /// The text to replace.
    pub from: String,
    /// The replacement; it need not be JSON.
    pub to: String,
}

/// Switches for odd behaviour of the Web API about people. The defaults are as documented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each switch is independent")]
pub struct Oddities {
    /// The type of `PrimaryKey` in Slim mode.
    pub primary_key: PrimaryKeyForm,
    /// List columns (`assocType`, `role`) hold the id in Slim mode, instead of the name.
    pub list_columns_are_ids: bool,
    /// Agents answer a malformed request with 200, `Message` and `MessageDetail` instead of 400.
    pub malformed_is_200: bool,
    /// Agents answer every request with 200 and `null`.
    pub agents_answer_null: bool,
    /// The maximum and default page size. No limit is documented; the documentation advises 1000.
    pub page_limit: usize,
    /// `odata.nextLink` is null although more rows follow.
    pub no_next_link: bool,
    /// `$skip` and filters on the key are ignored: every page is the first page.
    pub repeat_first_page: bool,
    /// Every page after the first begins with the last row of the page before.
    pub duplicate_rows: bool,
    /// These columns are missing from every row.
    pub missing_columns: Vec<String>,
    /// These columns hold an object instead of their value.
    pub wrong_types: Vec<String>,
    /// Every row has a column that was not selected.
    pub extra_column: bool,
    /// The restricted operations answer 404 instead of 403.
    pub restricted_is_404: bool,
    /// Replacements in responses.
    pub rewrites: Vec<Rewrite>,
}

impl Default for Oddities {
    fn default() -> Self {
        Self {
            primary_key: PrimaryKeyForm::default(),
            list_columns_are_ids: false,
            malformed_is_200: false,
            agents_answer_null: false,
            page_limit: 1000,
            no_next_link: false,
            repeat_first_page: false,
            duplicate_rows: false,
            missing_columns: Vec::new(),
            wrong_types: Vec::new(),
            extra_column: false,
            restricted_is_404: false,
            rewrites: Vec::new(),
        }
    }
}
