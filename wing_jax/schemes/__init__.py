"""Landmark schemes: the published ones, custom ones from TOML files, and conversions between schemes."""

from wing_jax.schemes.conversions import CONVERSIONS as CONVERSIONS
from wing_jax.schemes.conversions import Conversion as Conversion
from wing_jax.schemes.conversions import get_conversion as get_conversion
from wing_jax.schemes.scheme import SCHEMES as SCHEMES
from wing_jax.schemes.scheme import Scheme as Scheme
from wing_jax.schemes.scheme import SchemeLike as SchemeLike
from wing_jax.schemes.scheme import find_scheme as find_scheme
from wing_jax.schemes.tables import AFLW_19 as AFLW_19
from wing_jax.schemes.tables import AFLW_21 as AFLW_21
from wing_jax.schemes.tables import COFW_29 as COFW_29
from wing_jax.schemes.tables import FGNET_68 as FGNET_68
from wing_jax.schemes.tables import IBUG_68 as IBUG_68
from wing_jax.schemes.tables import LAPA_106 as LAPA_106
from wing_jax.schemes.tables import MTFL_5 as MTFL_5
from wing_jax.schemes.tables import SCUT_86 as SCUT_86
from wing_jax.schemes.tables import WFLW_98 as WFLW_98
from wing_jax.schemes.tables import get_scheme as get_scheme
