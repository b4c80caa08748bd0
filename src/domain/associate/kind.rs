//! Kinds of associates in their numberings, and what each can do at all (SUPEROFFICE.md 6.3).

/// What SuperOffice's list of user types calls "Not a user".
const NOT_A_USER: i32 = -1;

/// The kind of an associate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AssociateType {
    /// An employee.
    Internal,
    /// A resource, such as a room.
    Resource,
    /// An external person.
    External,
    /// The anonymous user.
    Anonymous,
    /// A system user.
    System,
    /// A kind that we do not know, by the database's number. Never taken for one that we know.
    Unrecognized(i32),
}

/// One row of the table of kinds.
struct Row {
    kind: AssociateType,
    /// In the database, and in the list `usertype` with which archives speak.
    code: i32,
    /// In enums of the API, as a word …
    api_name: &'static str,
    /// … and as a number, where it is sent as one.
    api_number: i32,
    /// What the list `usertype` calls it in English.
    list_name: &'static str,
    /// In the contract.
    contract_name: &'static str,
}

const KINDS: [Row; 5] = [
    Row {
        kind: AssociateType::Internal,
        code: 0,
        api_name: "InternalAssociate",
        api_number: 1,
        list_name: "Associate",
        contract_name: "INTERNAL",
    },
    Row {
        kind: AssociateType::Resource,
        code: 1,
        api_name: "ResourceAssociate",
        api_number: 2,
        list_name: "Resource",
        contract_name: "RESOURCE",
    },
    Row {
        kind: AssociateType::External,
        code: 4,
        api_name: "ExternalAssociate",
        api_number: 3,
        list_name: "External",
        contract_name: "EXTERNAL",
    },
    Row {
        kind: AssociateType::Anonymous,
        code: 7,
        api_name: "AnonymousAssociate",
        api_number: 4,
        list_name: "Anonymous",
        contract_name: "ANONYMOUS",
    },
    Row {
        kind: AssociateType::System,
        code: 13,
        api_name: "SystemAssociate",
        api_number: 5,
        list_name: "System",
        contract_name: "SYSTEM",
    },
];

/// What associates of a kind can do at all, whatever their rights.
#[expect(
    clippy::struct_excessive_bools,
    reason = "the platform's table of seven separate questions"
)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Can sign in to the client.
    pub sign_in: bool,
    /// Has a diary.
    pub diary: bool,
    /// Belongs to user groups.
    pub user_group: bool,
    /// Can be reached through the `NetServer` API only.
    pub netserver_api_only: bool,
    /// Needs the customer's licence "Expander Services".
    pub needs_expander_services: bool,
    /// Is supported in CRM Online.
    pub supported_online: bool,
    /// Is obsolete.
    pub obsolete: bool,
}

impl AssociateType {
    /// Where SuperOffice tells no kind.
    pub const UNTOLD: Self = Self::Unrecognized(NOT_A_USER);

    /// Every kind that we know, and one that we do not.
    pub const ALL: [Self; 6] = [
        Self::Internal,
        Self::Resource,
        Self::External,
        Self::Anonymous,
        Self::System,
        Self::UNTOLD,
    ];

    /// By the database's number, which archives use too.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        let row = KINDS.iter().find(|row| row.code == code);
        row.map_or(Self::Unrecognized(code), |row| row.kind)
    }

    /// By the word of an enum of the API, if it is one that we know.
    #[must_use]
    pub fn from_api_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.api_name == name).map(|row| row.kind)
    }

    /// By the number that stands for that word, which is not the database's: there 1 is a resource.
    #[must_use]
    pub fn from_api_number(number: i32) -> Option<Self> {
        KINDS.iter().find(|row| row.api_number == number).map(|row| row.kind)
    }

    /// By what an archive shows for it: the database's number, or where it shows texts the English name of the list
    /// `usertype` or the word of the API. In any other language it is not known.
    #[must_use]
    pub fn from_archive_text(text: &str) -> Option<Self> {
        if let Ok(code) = text.parse() {
            return Some(Self::from_code(code));
        }
        let row = KINDS.iter().find(|row| row.list_name == text || row.api_name == text);
        row.map(|row| row.kind)
    }

    /// The database's number: 0, 1, 4, 7, 13, or the one that was read.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Unrecognized(code) => code,
            known => known.row().map_or(NOT_A_USER, |row| row.code),
        }
    }

    /// The name in the contract, without the enum's prefix.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().map_or("UNRECOGNIZED", |row| row.contract_name)
    }

    fn row(self) -> Option<&'static Row> {
        KINDS.iter().find(|row| row.kind == self)
    }

    /// The platform's table; of a kind that we do not know nothing is promised.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        let none = Capabilities::default();
        match self {
            Self::Internal => Capabilities {
                sign_in: true,
                diary: true,
                user_group: true,
                supported_online: true,
                ..none
            },
            Self::Resource => Capabilities {
                diary: true,
                user_group: true,
                netserver_api_only: true,
                supported_online: true,
                ..none
            },
            Self::External => Capabilities { netserver_api_only: true, ..none },
            Self::Anonymous => Capabilities {
                netserver_api_only: true,
                needs_expander_services: true,
                obsolete: true,
                ..none
            },
            Self::System => Capabilities {
                netserver_api_only: true,
                needs_expander_services: true,
                supported_online: true,
                ..none
            },
            Self::Unrecognized(_) => none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_numberings_name_the_same_kinds() {
        for (code, name, number, shown, kind) in [
            (0, "InternalAssociate", 1, "Associate", AssociateType::Internal),
            (1, "ResourceAssociate", 2, "Resource", AssociateType::Resource),
            (4, "ExternalAssociate", 3, "External", AssociateType::External),
            (7, "AnonymousAssociate", 4, "Anonymous", AssociateType::Anonymous),
            (13, "SystemAssociate", 5, "System", AssociateType::System),
        ] {
            assert_eq!(AssociateType::from_code(code), kind);
            assert_eq!(kind.code(), code);
            assert_eq!(AssociateType::from_api_name(name), Some(kind));
            assert_eq!(AssociateType::from_api_number(number), Some(kind));
            for text in [shown, name, &code.to_string()] {
                assert_eq!(AssociateType::from_archive_text(text), Some(kind), "{text}");
            }
        }
    }

    #[test]
    fn an_unknown_kind_keeps_its_number_and_is_never_internal() {
        for code in [-1, 2, 3, 5, 8, 12, 14, i32::MIN, i32::MAX] {
            let kind = AssociateType::from_code(code);
            assert_eq!((kind, kind.code()), (AssociateType::Unrecognized(code), code));
            assert_eq!(kind.as_str(), "UNRECOGNIZED");
            assert_eq!(kind.capabilities(), Capabilities::default());
        }
        for name in ["", "Unknown", "internalassociate", "Employee"] {
            assert_eq!(AssociateType::from_api_name(name), None, "{name}");
            assert_eq!(AssociateType::from_archive_text(name), None, "{name}");
        }
        assert_eq!(AssociateType::from_api_number(0), None);
        assert_eq!(AssociateType::from_api_number(13), None);
    }

    /// The table of SUPEROFFICE.md 6.3, column by column.
    #[test]
    fn capabilities_are_the_platforms_table() {
        let table = |kind: AssociateType| {
            let can = kind.capabilities();
            [
                can.sign_in,
                can.diary,
                can.user_group,
                can.netserver_api_only,
                can.needs_expander_services,
                can.supported_online,
                can.obsolete,
            ]
            .map(u8::from)
        };
        for (kind, row) in [
            (AssociateType::Internal, [1, 1, 1, 0, 0, 1, 0]),
            (AssociateType::Resource, [0, 1, 1, 1, 0, 1, 0]),
            (AssociateType::External, [0, 0, 0, 1, 0, 0, 0]),
            (AssociateType::Anonymous, [0, 0, 0, 1, 1, 0, 1]),
            (AssociateType::System, [0, 0, 0, 1, 1, 1, 0]),
            (AssociateType::Unrecognized(99), [0; 7]),
        ] {
            assert_eq!(table(kind), row, "{kind:?}");
        }
    }
}
