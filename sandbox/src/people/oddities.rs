//! How the Web API tells about people, where the service is odd, silent or could be wrong.

use serde::{Deserialize, Serialize};

/// What a row's `PrimaryKey` looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrimaryKeyForm {
    /// `"1"`, as in real answers.
    #[default]
    Text,
    /// `1`, as in generated samples.
    Number,
    /// Now this, now that, in one page.
    Mixed,
}

/// A part of answers that is sent in another form, as no documentation describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Answers to calls of this path, such as `api/v1/User`.
    pub path: String,
    /// A part of the JSON text.
    pub from: String,
    /// Takes its place, whether or not that is JSON.
    pub to: String,
}

/// Switches for the oddities of the Web API about people. The default is what is documented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Oddities {
    /// What `PrimaryKey` looks like in Slim mode.
    pub primary_key: PrimaryKeyForm,
    /// List columns (`assocType`, `role`) hold the id in Slim mode, instead of the name.
    pub list_columns_are_ids: bool,
    /// An agent answers 200 with `Message` and `MessageDetail` to a malformed request, not 400.
    pub malformed_is_200: bool,
    /// An agent answers 200 with `null` to everything.
    pub agents_answer_null: bool,
    /// The greatest page, and the page without `$top`. No bound is documented; 1000 is the advice.
    pub page_limit: usize,
    /// `odata.nextLink` is null although rows are left.
    pub no_next_link: bool,
    /// `$skip` and what is filtered by key are ignored: the first page again and again.
    pub repeat_first_page: bool,
    /// Every page after the first begins with the last row of the one before it.
    pub duplicate_rows: bool,
    /// These columns are missing from every row.
    pub missing_columns: Vec<String>,
    /// These columns hold an object instead of their value.
    pub wrong_types: Vec<String>,
    /// Every row has a column that nobody asked for.
    pub extra_column: bool,
    /// The restricted operations answer as if they did not exist (404) instead of 403.
    pub restricted_is_404: bool,
    /// Parts of answers that are sent in another form.
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
