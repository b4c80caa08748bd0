//! Types of associates, their codes and names in SuperOffice, and their capabilities.

/// The code for "Not a user" in SuperOffice's list of user types.
const NOT_A_USER: i32 = -1;

/// The type of an associate.
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
    /// An unknown type, by its database number. It is never treated as a known type.
    Unrecognized(i32),
}

/// A row of the table of types.
struct Row {
    kind: AssociateType,
    /// The number in the database and in the list `usertype`, which archives use.
    code: i32,
    /// The name in enums of the API.
    api_name: &'static str,
    /// The number in enums of the API, if it is sent as a number.
    api_number: i32,
    /// The English name in the list `usertype`.
    list_name: &'static str,
    /// The name in the gateway's API.
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

/// The capabilities of a type of associate, independent of rights.
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
    /// The type of an associate for which SuperOffice returns no type.
    pub const UNSPECIFIED: Self = Self::Unrecognized(NOT_A_USER);

    /// All known types, and one unknown type.
    pub const ALL: [Self; 6] = [
        Self::Internal,
        Self::Resource,
        Self::External,
        Self::Anonymous,
        Self::System,
        Self::UNSPECIFIED,
    ];

    /// Returns the type by its number in the database and in archives.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        let row = KINDS.iter().find(|row| row.code == code);
        row.map_or(Self::Unrecognized(code), |row| row.kind)
    }

    /// Returns the type by its name in enums of the API, if it is known.
    #[must_use]
    pub fn from_api_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.api_name == name).map(|row| row.kind)
    }

    /// Returns the type by its number in enums of the API. This is not the database's number, in which 1 is a resource.
    #[must_use]
    pub fn from_api_number(number: i32) -> Option<Self> {
        KINDS.iter().find(|row| row.api_number == number).map(|row| row.kind)
    }

    /// Returns the type by its text in an archive: the database's number, the English name in the list `usertype`, or
    /// the API's name. Names in other languages are not recognized.
    #[must_use]
    pub fn from_archive_text(text: &str) -> Option<Self> {
        if let Ok(code) = text.parse() {
            return Some(Self::from_code(code));
        }
        let row = KINDS.iter().find(|row| row.list_name == text || row.api_name == text);
        row.map(|row| row.kind)
    }

    /// Returns the database's number: 0, 1, 4, 7, 13, or the unknown number that was read.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Unrecognized(code) => code,
            known => known.row().map_or(NOT_A_USER, |row| row.code),
        }
    }

    /// Returns the name in the gateway's API, without the enum's prefix.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().map_or("UNRECOGNIZED", |row| row.contract_name)
    }

    fn row(self) -> Option<&'static Row> {
        KINDS.iter().find(|row| row.kind == self)
    }

    /// Returns the capabilities by the platform's table. An unknown type has none.
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
    fn all_codes_and_names_give_the_same_type() {
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
    fn an_unknown_type_keeps_its_number_and_is_never_internal() {
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

    /// SuperOffice's documented table, column by column.
    #[test]
    fn capabilities_match_the_documented_table() {
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
