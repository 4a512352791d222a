"""Ray caster of the Shapes3D room: an object on a hued floor before hued walls, under an open sky.

Camera, light and room are fitted to five images of the real data set (Kim and Mnih, 2018,
https://github.com/google-deepmind/3d-shapes): the images resemble the real ones, they are not the real ones.
Vectors are arrays whose first axis is (x, y, z): x to the right, y into the room, z up. The object is at the origin.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SCALES = np.linspace(0.75, 1.25, 8)
SHAPES = ("cube", "cylinder", "sphere", "capsule")
ORIENTATIONS = np.linspace(-30.0, 30.0, 15)  # degrees

SKY, FLOOR, WALL, OBJECT = range(4)  # the layers of an image
SKY_COLOR = np.array([154, 226, 250]) / 255

_SHADOW_OFFSET = 1e-3  # a shadow ray starts this far above its surface, or it would hit it


@dataclass(frozen=True)
class Scene:
    """The fitted scene. Lengths are in scene units, angles in degrees, light strengths relative to the albedo."""

    # the camera circles the object at a fixed distance, by the orientation factor plus an offset
    camera_distance: float = 8.0
    camera_height: float = 2.23
    target_height: float = 2.3616
    azimuth_offset: float = -4.145
    field_of_view: float = 48.907
    # the room is open at its front and top
    back_wall: float = 13.219
    side_wall: float = 12.588
    wall_height: float = 6.910
    # the objects at scale 1: half an edge for the cube, heights without the capsule's round ends
    cube_half_edge: float = 1.1072
    cylinder_radius: float = 1.1874
    cylinder_height: float = 2.3358
    sphere_radius: float = 1.3330
    capsule_radius: float = 1.0182
    capsule_height: float = 2.0458
    # one spot light that throws the shadow, one light at the camera, and light from everywhere
    spot_position: tuple[float, float, float] = (-4.652, 1.4447, 23.789)
    spot_target: tuple[float, float, float] = (-5.410, 1.7546, 0.0)
    spot_exponent: float = 8.624
    spot_light: float = 0.9425
    camera_light: float = 0.5960
    ambient_light: float = 0.3600
    # how much of the two lamps' light the walls and the object send back, the floor being 1
    wall_reflectance: float = 0.9567
    object_reflectance: float = 0.9156
    # white gloss on the object, from the spot light and from the camera's
    spot_gloss: float = 0.1435
    camera_gloss: float = 0.0190


class Surfaces(NamedTuple):
    """What every ray sees. Its colour is clip(albedo * diffuse + specular, 0, 1), except for the sky's."""

    layer: np.ndarray  # (n, n) SKY, FLOOR, WALL or OBJECT
    diffuse: np.ndarray  # (n, n)
    specular: np.ndarray  # (n, n)


def cast_rays(scale: float, shape: str, orientation: float, rays: int, scene: Scene = Scene()) -> Surfaces:
    """Send rays x rays rays, row by row from the top left corner of the image, into one geometry of the scene.

    Args:
        scale: Size of the object, 0.75 to 1.25.
        shape: One of `SHAPES`.
        orientation: Angle of the camera around the object in degrees, -30 to 30.
        rays: Rays along each side of the square image.
        scene: The scene's parameters.
    """
    camera, forward, direction = _camera_rays(scene, orientation, rays)
    layer, distance, normal = _room(scene, camera, direction)
    object_distance = _object_distance(scene, shape, scale, camera, direction)
    on_object = object_distance < distance
    layer = np.where(on_object, OBJECT, layer)
    point = camera + np.where(on_object, object_distance, distance) * direction
    normal = np.where(on_object, _object_normal(scene, shape, scale, point), normal)

    spot = _vector(*scene.spot_position)
    to_spot = spot - point
    spot_distance = np.sqrt(_dot(to_spot, to_spot))
    to_spot /= spot_distance
    beam = _dot(to_spot, _unit(spot - _vector(*scene.spot_target))) ** scene.spot_exponent
    facing_spot = _dot(normal, to_spot).clip(0)
    facing_camera = (-_dot(normal, forward)).clip(0)
    blocker = _object_distance(scene, shape, scale, point + _SHADOW_OFFSET * normal, to_spot)
    lit = on_object | (blocker >= spot_distance)

    reflectance = np.array([0, 1, scene.wall_reflectance, scene.object_reflectance], np.float32)[layer]
    lamps = scene.spot_light * beam * facing_spot * lit + scene.camera_light * facing_camera
    halfway = _dot(normal, _unit(to_spot - direction)).clip(0)
    gloss = scene.spot_gloss * halfway * (4 * facing_spot).clip(0, 1) + scene.camera_gloss * facing_camera
    return Surfaces(layer, scene.ambient_light + reflectance * lamps, on_object * gloss)


def _camera_rays(scene: Scene, orientation: float, rays: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the camera's position (3, 1, 1), the direction it looks in (3, 1, 1) and the rays' (3, n, n)."""
    azimuth = math.radians(orientation + scene.azimuth_offset)
    east, north = scene.camera_distance * math.sin(azimuth), -scene.camera_distance * math.cos(azimuth)
    camera = _vector(east, north, scene.camera_height)
    forward = _unit(_vector(0, 0, scene.target_height) - camera)
    right = _unit(_vector(-north, east, 0))
    up = np.cross(right, forward, axis=0)
    edge = math.tan(math.radians(scene.field_of_view) / 2)
    offsets = edge * (2 * (np.arange(rays, dtype=np.float32) + 0.5) / rays - 1)
    return camera, forward, _unit(forward + offsets[None, None, :] * right - offsets[None, :, None] * up)


def _vector(x: float, y: float, z: float) -> np.ndarray:
    """Return one vector (3, 1, 1) that meets fields of vectors (3, n, n)."""
    return np.array([x, y, z], np.float32).reshape(3, 1, 1)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(0)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(_dot(vector, vector))


def _room(scene: Scene, camera: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return layer (n, n), distance (n, n) and normal (3, n, n) of the room's surface on each ray."""
    normals = np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0], [-1, 0, 0]], np.float32)  # floor, back, left, right
    offsets = -np.array([0, scene.back_wall, scene.side_wall, scene.side_wall], np.float32)
    toward = np.tensordot(normals, direction, 1)  # (4, n, n)
    gap = offsets - normals @ camera[:, 0, 0]
    distances = np.where(toward < 0, gap[:, None, None] / np.minimum(toward, -1e-9), np.inf)
    plane, distance = distances.argmin(0), distances.min(0)
    height = camera[2] + distance * direction[2]
    layer = np.where(plane == 0, FLOOR, np.where(height < scene.wall_height, WALL, SKY))
    return layer, distance, normals.T[:, plane]


def _object_distance(scene: Scene, shape: str, scale: float, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return how far the object is along each ray (n, n): inf where the ray misses it."""
    if shape == "cube":
        return _box_distance(scene.cube_half_edge * scale, origin, direction)
    if shape == "cylinder":
        radius, top = scene.cylinder_radius * scale, scene.cylinder_height * scale
        side = _tube_distance(radius, 0, top, origin, direction)
        return np.minimum(side, _disc_distance(radius, top, origin, direction))
    radius, low, high = _rounded_axis(scene, shape, scale)
    distance = _ball_distance(radius, low, origin, direction)
    if low < high:
        distance = np.minimum(distance, _ball_distance(radius, high, origin, direction))
        distance = np.minimum(distance, _tube_distance(radius, low, high, origin, direction))
    return distance


def _object_normal(scene: Scene, shape: str, scale: float, point: np.ndarray) -> np.ndarray:
    """Return the unit normals (3, n, n) of the object at points (3, n, n) on it; anything at points off it."""
    if shape == "cube":
        half_edge = scene.cube_half_edge * scale
        from_center = point - _vector(0, 0, half_edge)
        axis = np.abs(from_center).argmax(0)
        return np.sign(from_center) * (axis == np.arange(3)[:, None, None])
    if shape == "cylinder":
        on_top = point[2] > (scene.cylinder_height - 1e-3) * scale
        return np.where(on_top, _vector(0, 0, 1), point * _vector(1, 1, 0) / (scene.cylinder_radius * scale))
    radius, low, high = _rounded_axis(scene, shape, scale)
    return np.stack([point[0], point[1], point[2] - point[2].clip(low, high)]) / radius


def _rounded_axis(scene: Scene, shape: str, scale: float) -> tuple[float, float, float]:
    """Return radius, lower and upper end of the axis of a capsule; a sphere is a capsule without length."""
    if shape == "sphere":
        return scene.sphere_radius * scale, scene.sphere_radius * scale, scene.sphere_radius * scale
    if shape == "capsule":
        radius = scene.capsule_radius * scale
        return radius, radius, radius + scene.capsule_height * scale
    raise ValueError(f"unknown shape {shape!r}: choose one of {', '.join(SHAPES)}")


def _first_root(a: np.ndarray | float, half_b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the smaller root of a t² + 2 half_b t + c = 0 where it is real and positive, else inf."""
    discriminant = half_b**2 - a * c
    root = (-half_b - np.sqrt(discriminant.clip(0))) / a
    return np.where((discriminant > 0) & (root > 0), root, np.inf)


def _ball_distance(radius: float, height: float, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    from_center = origin - _vector(0, 0, height)
    return _first_root(1.0, _dot(from_center, direction), _dot(from_center, from_center) - radius**2)


def _tube_distance(radius: float, low: float, high: float, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    flat_origin, flat_direction = origin[:2], direction[:2]
    distance = _first_root(
        _dot(flat_direction, flat_direction).clip(1e-9),
        _dot(flat_origin, flat_direction),
        _dot(flat_origin, flat_origin) - radius**2,
    )
    height = origin[2] + np.where(np.isfinite(distance), distance, 0) * direction[2]
    return np.where((height > low) & (height < high), distance, np.inf)


def _disc_distance(radius: float, height: float, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    slope = np.where(np.abs(direction[2]) < 1e-9, 1e-9, direction[2])
    distance = (height - origin[2]) / slope
    x, y = origin[0] + distance * direction[0], origin[1] + distance * direction[1]
    return np.where((distance > 0) & (x**2 + y**2 < radius**2), distance, np.inf)


def _box_distance(half_edge: float, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    from_center = origin - _vector(0, 0, half_edge)
    slope = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    sides = np.stack([(-half_edge - from_center) / slope, (half_edge - from_center) / slope])  # (2, 3, n, n)
    enter, leave = sides.min(0).max(0), sides.max(0).min(0)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)
