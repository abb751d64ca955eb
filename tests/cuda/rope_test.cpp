#include "kernels/rope.h"

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

constexpr float eps = 1e-6f;
constexpr std::int64_t table_rows = 50;

struct Case {
  std::int64_t rows, heads, dim, gap;  // gap: floats between rows
  std::int64_t stride() const { return heads * dim + gap; }
};

// Halves that are no multiple of 16: the lanes that sum a head are not those that rotate it.
std::vector<Case> cases() {
  std::vector<Case> all{{1, 1, 2, 0},  {3, 2, 10, 5},   {5, 3, 32, 0},
                        {2, 5, 40, 3}, {133, 2, 20, 1}, {4, 2, 128, 0}};
  if (test::large()) all.insert(all.end(), {{4099, 16, 128, 0}, {517, 3, 256, 64}});
  return all;
}

/// One projection on both sides; T: what rows hold.
template <class T>
struct Heads {
  Case c;
  std::vector<float> cosines, sines, weights, xs, dys;
  std::vector<std::int32_t> rows;
  DeviceArray<float> cosine, sine, weight;
  DeviceArray<std::int32_t> positions;

  Heads(const Case& of, Noise& noise)
      : c(of),
        cosines(static_cast<std::size_t>(table_rows * c.dim / 2)),
        sines(cosines.size()),
        weights(noise.normals(c.dim)),
        xs(held<T>(noise.normals(c.rows * c.stride(), 2.0))),
        dys(held<T>(noise.normals(c.rows * c.stride()))),
        rows(places(noise)),
        cosine(table()),
        sine(sines),
        weight(weights),
        positions(rows) {}

  HeadRows host(bool norm) const {
    return {c.rows,
            c.heads,
            c.dim,
            rows.data(),
            cosines.data(),
            sines.data(),
            norm ? weights.data() : nullptr};
  }
  HeadRows on_device(bool norm) const {
    return {c.rows,
            c.heads,
            c.dim,
            positions.data(),
            cosine.data(),
            sine.data(),
            norm ? weight.data() : nullptr};
  }

 private:
  const std::vector<float>& table() {
    rope_table(twin(), cosines.data(), sines.data(), 1e6, table_rows, c.dim / 2);
    return cosines;
  }
  std::vector<std::int32_t> places(Noise& noise) const {
    std::vector<std::int32_t> all(static_cast<std::size_t>(c.rows));
    for (auto& p : all) p = static_cast<std::int32_t>(noise.below(table_rows));
    return all;
  }
};

template <class T>
struct CudaRope : testing::Test {};
TYPED_TEST_SUITE(CudaRope, test::Elements, test::ElementName);

TYPED_TEST(CudaRope, HasTheBitsOfTheCpuForwards) {
  using T = TypeParam;
  Noise noise(1);
  for (const Case& c : cases()) {
    const Heads<T> in(c, noise);
    for (const bool norm : {false, true}) {
      std::vector<float> y_host = in.dys,
                         rstd_host(static_cast<std::size_t>(c.rows * c.heads), 7.0f);
      const DeviceArray<T> y(stored_as<T>(y_host)), x(stored_as<T>(in.xs));
      const DeviceArray<float> rstd(rstd_host);
      head_norm_rope_forward(twin(), y_host.data(), c.stride(), rstd_host.data(), in.xs.data(),
                             c.stride(), eps, in.host(norm));
      head_norm_rope_forward(device(), y.data(), c.stride(), rstd.data(), x.data(), c.stride(), eps,
                             in.on_device(norm));
      expect_same(y_host, y, "y");
      expect_same(rstd_host, rstd, "rstd");
      std::vector<float> in_place = in.xs;
      head_norm_rope_forward(twin(), in_place.data(), c.stride(), rstd_host.data(), in_place.data(),
                             c.stride(), eps, in.host(norm));
      head_norm_rope_forward(device(), x.data(), c.stride(), rstd.data(), x.data(), c.stride(), eps,
                             in.on_device(norm));
      expect_same(in_place, x, "y in place of x");
    }
  }
}

TYPED_TEST(CudaRope, HasTheBitsOfTheCpuBackwards) {
  using T = TypeParam;
  Noise noise(2);
  for (const Case& c : cases()) {
    const Heads<T> in(c, noise);
    std::vector<float> rstds(static_cast<std::size_t>(c.rows * c.heads));
    for (float& r : rstds) r = static_cast<float>(0.1 + noise.uniform());
    const std::vector<float> dweights = noise.normals(c.heads * c.dim);
    const DeviceArray<float> rstd(rstds);
    const DeviceArray<T> x(stored_as<T>(in.xs));
    for (const bool norm : {false, true}) {
      std::vector<float> dx_host = in.dys, dweight_host = dweights;
      head_norm_rope_backward(twin(), dx_host.data(), c.stride(),
                              norm ? dweight_host.data() : nullptr, in.dys.data(), c.stride(),
                              in.xs.data(), c.stride(), rstds.data(), in.host(norm));
      const DeviceArray<T> dy(stored_as<T>(in.dys)), dx(stored_as<T>(in.dys));
      const DeviceArray<float> dweight(dweights);
      head_norm_rope_backward(device(), dx.data(), c.stride(), norm ? dweight.data() : nullptr,
                              dy.data(), c.stride(), x.data(), c.stride(), rstd.data(),
                              in.on_device(norm));
      expect_same(dx_host, dx, "dx");
      expect_same(dweight_host, dweight, "dweight");
      head_norm_rope_backward(device(), dy.data(), c.stride(), nullptr, dy.data(), c.stride(),
                              x.data(), c.stride(), rstd.data(), in.on_device(norm));
      expect_same(dx_host, dy, "dx in place of dy");
    }
  }
}

}  // namespace
}  // namespace fst::kernels
