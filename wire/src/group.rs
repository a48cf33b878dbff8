//! What the members of a group may do.

use crate::v1;

/// What a member of a group may do. Each may do all that those before may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read, and write where the group is not for announcements.
    #[default]
    Member,
    /// Also write announcements, let in and remove members, name admins, change name and picture.
    Admin,
    /// There is one, whom nobody can remove.
    Owner,
}

impl From<v1::Role> for Role {
    fn from(role: v1::Role) -> Self {
        match role {
            v1::Role::Member => Self::Member,
            v1::Role::Admin => Self::Admin,
            v1::Role::Owner => Self::Owner,
        }
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}
